"""The explorer's server: one process that hands out a page and decodes for it.

It listens on loopback unless told otherwise, answers only requests that name it by an address, `localhost` or the host it
was started for (else any web page could reach it by DNS rebinding), refuses those that another site's page makes, takes no
path from the network, caps what it reads, and decodes uploaded pictures by the rules of `vaekit.files.decode`.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from torch import Tensor

from vaekit.errors import InputError, RunError
from vaekit.explorer.decoding import BusyError, Decoding
from vaekit.explorer.opened import Opened
from vaekit.explorer.page import KINDS, page_files
from vaekit.explorer.scene import Scene
from vaekit.explorer.sheets import to_levels
from vaekit.files.decode import Rule, UnreadableError, decode, header, quiet
from vaekit.records import to_json

MOST_UPLOAD = 16 << 20  # bytes of a picture
MOST_PIXELS = 32_000_000  # of a picture
_MOST_DECODED = 2048  # images in one request
_LARGEST = 1e4  # of a coordinate
_STRONGEST = 100.0  # guidance
_SECONDS = 20.0  # for a request's body to arrive
_NEIGHBOURS = 8
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware: who may ask, and what browsers may do with the answer.

    Args:
        app: what answers those who may.
        host: the name or address that the server was started for.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], host: str):
        self.app, self.host = app, host

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reason = self.refusal(given)
        if reason is not None:
            await _problem(403, reason)(scope, receive, send)
            return

        async def guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        await self.app(scope, receive, guarded)

    def refusal(self, headers: dict[str, str]) -> str | None:
        """Why a request with these headers is refused; None for one that is not.

        >>> guard = Guard(None, "127.0.0.1")
        >>> guard.refusal({"host": "localhost:8420", "origin": "http://localhost:8420"}) is None
        True
        >>> guard.refusal({"host": "evil.example:8420"})
        "host 'evil.example' is not this server; open it by its address"
        >>> guard.refusal({"host": "127.0.0.1:8420", "origin": "http://evil.example"})
        'the request comes from another site; open the explorer itself'
        """
        host = headers.get("host", "")
        name = _hostname(host)
        if name is None or not (name in ("localhost", self.host) or _is_address(name)):
            return f"host {name or host!r} is not this server; open it by its address"
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            typed = headers.get("sec-fetch-mode") == "navigate" and origin is None  # a link that somebody followed
            if foreign or not typed:
                return "the request comes from another site; open the explorer itself"
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _problem(status: int, sentence: str) -> Response:
    return JSONResponse({"problem": sentence}, status)


async def _body(request: Request, most: int) -> bytes:
    """A request's body, as far as it comes in time and is not too large."""
    received = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                received += part
                if len(received) > most:
                    raise HTTPException(413, f"more than {most:,} bytes; send less")
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {_SECONDS:.0f} seconds; send it again") from None
    return bytes(received)


def places(body: bytes, latents: int, conditions: int, guided: bool) -> tuple[Tensor, Tensor | None]:
    """Coordinates (n, latent) and what is told beside them, or None, of a request: float32, little-endian, row by row.

    Args:
        body: of the request.
        latents: how many coordinates a row has.
        conditions: how many weights of classes, or attributes, follow them.
        guided: whether a guidance follows these.

    Raises:
        HTTPException: for anything else.
    """
    conditions += guided
    width = latents + conditions
    if not body or len(body) % (4 * width):
        raise HTTPException(400, f"{len(body)} bytes are not rows of {width} float32 numbers")
    rows = torch.from_numpy(np.frombuffer(body, "<f4").reshape(-1, width).astype(np.float32))
    chart, weights = rows[:, :latents], rows[:, latents:] if conditions else None
    given = chart if weights is None else torch.cat([chart, weights.nan_to_num()], 1)
    if len(rows) > _MOST_DECODED or not bool((given.abs() <= _LARGEST).all()):
        raise HTTPException(400, f"give up to {_MOST_DECODED} rows of numbers up to {_LARGEST:g}")
    if guided and not bool(((rows[:, -1] >= 0) & (rows[:, -1] <= _STRONGEST)).all()):
        raise HTTPException(400, f"give a guidance from 0 to {_STRONGEST:g}")
    return chart, weights


def numbers(text: str, count: int) -> list[float]:
    """So many temperatures, from 0 to 10, from a text with commas between them.

    Raises:
        HTTPException: for anything else.

    >>> numbers("1,0.5", 2)
    [1.0, 0.5]
    """
    try:
        found = [float(part) for part in text.split(",", count)]
    except ValueError:
        found = []
    if len(found) != count or not all(0 <= value <= 10 for value in found):
        raise HTTPException(400, f"give {count} temperatures from 0 to 10")
    return found


def _known(scene: Scene, weights: Tensor) -> bool:
    """Whether weights (1, k) name a class, where the model must be told one."""
    return scene.model.num_classes is None or scene.model.accepts_unknown or bool(weights.sum() > 0)


def create_app(opened: Opened, host: str = "127.0.0.1") -> FastAPI:
    """The application that serves one opened model.

    Args:
        opened: what to show; its scene may change while the server runs.
        host: the name that requests may call the server by, beside addresses and localhost.
    """
    decoding = Decoding(lambda chart, told: to_levels(opened.scene.asked(chart, told)))
    kept = page_files()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(opened, decoding))
        yield
        following.cancel()
        decoding.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, host=host)

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        return _problem(problem.status_code, str(problem.detail))

    @app.exception_handler(404)
    async def _missing(request: Request, problem: Exception) -> Response:
        return _problem(404, "there is nothing of this name")

    @app.exception_handler(BusyError)
    async def _busy(request: Request, problem: Exception) -> Response:
        return _problem(503, str(problem))

    @app.get("/")
    async def index() -> Response:
        return Response(kept["index.html"], media_type=KINDS[".html"])

    @app.get("/{name}")
    async def part(name: str) -> Response:
        if name not in kept:
            raise HTTPException(404, "there is nothing of this name")
        return Response(kept[name], media_type=KINDS[name[name.rindex(".") :]])

    @app.get("/data/scene.json")
    async def scene() -> Response:
        found = await decoding.run(lambda: opened.scene.description)
        return Response(to_json(found, indent=None), media_type="application/json")

    @app.get("/data/{name}")
    async def blob(name: str) -> Response:
        make = opened.scene.blobs.get(name)
        if make is None:
            raise HTTPException(404, "there is nothing of this name")
        content, kind = await asyncio.get_running_loop().run_in_executor(None, make)
        return Response(content, media_type=kind)

    @app.get("/api/training")
    async def training() -> Response:
        found = {"version": opened.version, **opened.training}
        return Response(to_json(found, indent=None), media_type="application/json")

    @app.post("/api/decode")
    async def decoded(request: Request) -> Response:
        description = opened.scene.description
        latents, conditions, guided = (description[name] for name in ("latent_dim", "conditions", "guided"))
        body = await _body(request, 4 * _MOST_DECODED * (latents + conditions + guided))
        levels = await decoding(*places(body, latents, conditions, guided))
        return Response(
            levels.permute(0, 2, 3, 1).contiguous().numpy().tobytes(), media_type="application/octet-stream"
        )

    @app.post("/api/sample")
    async def sampled(request: Request, seed: int, temperatures: str) -> Response:
        scene = opened.scene
        given = numbers(temperatures, scene.model.levels)
        if not 0 <= seed < 2**63:
            raise HTTPException(400, "give a seed from 0, below 2^63")
        conditions, guided = scene.description["conditions"], scene.description["guided"]
        body = await _body(request, 4 * (conditions + guided))
        told = places(body, 0, conditions, guided)[1] if conditions else None
        weights = told[:, :conditions] if told is not None else None
        if weights is not None and (len(weights) != 1 or not _known(scene, weights)):
            raise HTTPException(400, "give one class or row of attributes that the model knows")
        guidance = float(told[0, -1]) if told is not None and guided else None
        found = await decoding.run(lambda: scene.drawn(seed, given, weights, guidance).float().numpy().tobytes())
        assert isinstance(found, bytes)
        return Response(found, media_type="application/octet-stream")

    @app.post("/api/encode")
    async def encoded(request: Request, label: int | None = None) -> Response:
        content = await _body(request, MOST_UPLOAD)
        scene = opened.scene
        if label is not None and not 0 <= label < (scene.model.num_classes or 0):
            raise HTTPException(400, f"label {label} is not one of the model's")
        if label is None and scene.model.num_classes is not None and not scene.model.accepts_unknown:
            raise HTTPException(400, "the model reads the class of an image; choose it first")
        loop = asyncio.get_running_loop()
        try:
            image = await loop.run_in_executor(None, picture, content, scene)
        except UnreadableError as problem:
            raise HTTPException(422, f"the picture cannot be read: it is {problem}") from None
        found = await decoding.run(lambda: own_image(scene, image, label))
        return Response(json.dumps(found), media_type="application/json")

    return app


async def _follow(opened: Opened, decoding: Decoding) -> None:
    """Look for newer weights every second, as long as the run trains."""
    while not opened.training["finished"]:
        await asyncio.sleep(1.0)
        with suppress(InputError, RunError, OSError):  # a run that is moved away keeps what was opened
            await decoding.run(opened.refreshed)
    with suppress(InputError, RunError, OSError):
        await decoding.run(opened.refreshed)


def picture(content: bytes, scene: Scene) -> Tensor:
    """An uploaded picture as the model reads it, (1, channels, height, width) in [0, 1].

    Raises:
        UnreadableError: for one that is damaged, of an unknown format or too large.
    """
    with quiet():
        about = header(content)
    if about.width * about.height > MOST_PIXELS:
        raise UnreadableError(f"of {about.width:,}x{about.height:,} pixels; give up to {MOST_PIXELS:,}")
    channels, height, width = scene.trained.info.seen_shape
    rule = Rule(height, width, 1 if channels == 1 else 3, scene.trained.config.data.sizing.resize)
    with quiet():
        pixels = decode(content, rule)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255.0


def own_image(scene: Scene, image: Tensor, label: int | None) -> dict[str, Any]:
    """What the model makes of an image: its place, how well it comes back, and what lies near it."""
    weights = None
    if scene.model.num_classes is not None:
        weights = torch.zeros(1, scene.model.num_classes)
        if label is not None:
            weights[0, label] = 1.0
    elif scene.model.num_attributes is not None:
        weights = torch.full((1, scene.model.num_attributes), torch.nan)
    chart = scene.encoded(image, weights)
    back = scene.decoded(chart, weights)
    error = float((back - image).square().mean()) if back.shape == image.shape else None
    errors = scene.errors
    typical = None if error is None or not len(errors) else float((errors < error).mean())
    distances = np.linalg.norm(scene.codes.means - chart.numpy(), axis=1)
    nearest = np.argsort(distances)[: _NEIGHBOURS if scene.images is not None else 0]
    return {
        "code": chart[0].tolist(),
        "input": _levels_text(image),
        "output": _levels_text(back),
        "error": error,
        "worse_than": typical,
        "neighbours": [int(row) for row in nearest],
    }


def _levels_text(image: Tensor) -> str:
    return base64.b64encode(to_levels(image)[0].permute(1, 2, 0).contiguous().numpy().tobytes()).decode()
