"""The server: what it answers, and whom it refuses."""

from __future__ import annotations

import base64
import io
import random
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from vaekit.explorer.opened import Opened
from vaekit.explorer.page import page_files
from vaekit.explorer.server import MOST_UPLOAD, create_app
from vaekit.explorer.sheets import to_levels


def rows(count: int, label: int = 3) -> np.ndarray:
    """Requests for the model with classes: two coordinates and ten weights each."""
    found = np.random.default_rng(count).normal(size=(count, 12)).astype("<f4")
    found[:, 2:] = np.eye(10, dtype="<f4")[label]
    return found


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_and_all_its_parts(client: TestClient) -> None:
    assert "vaekit" in client.get("/").text
    for name, content in page_files().items():
        answer = client.get(f"/{name}")
        assert answer.content == content
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    about = client.get("/data/scene.json").json()
    assert len(client.get("/data/codes.bin").content) == 4 * about["count"] * about["latent_dim"]
    assert client.get("/api/training").json()["finished"] is True


@pytest.mark.parametrize("count", [1, 7, 300])
def test_decoded_levels_are_those_of_the_model(client: TestClient, opened: dict[str, Opened], count: int) -> None:
    asked = rows(count)
    answer = client.post("/api/decode", content=asked.tobytes())
    found = np.frombuffer(answer.content, np.uint8).reshape(count, 8, 8, 1)
    given = torch.from_numpy(asked.copy())
    expected = to_levels(opened["classes"].scene.decoded(given[:, :2], given[:, 2:]))
    assert np.abs(found.astype(int) - expected.permute(0, 2, 3, 1).numpy()).max() <= 1
    assert found.std() > 10


def guided_rows(guidance: list[float]) -> np.ndarray:
    """One code and class under several guidances."""
    row = np.concatenate([[0.5, -0.5], np.eye(10)[3]])
    return np.array([[*row, strength] for strength in guidance], "<f4")


def test_each_row_is_decoded_under_its_own_guidance(opened: dict[str, Opened]) -> None:
    strengths = [1.0, 4.0, 0.0, 4.0]
    with TestClient(create_app(opened["guided"]), "http://127.0.0.1:8420") as client:
        assert client.get("/data/scene.json").json()["guided"] is True
        answer = client.post("/api/decode", content=guided_rows(strengths).tobytes())
    found = np.frombuffer(answer.content, np.uint8).reshape(4, 8, 8).astype(int)
    scene = opened["guided"].scene
    told = torch.from_numpy(guided_rows([1.0]))
    for image, strength in zip(found, strengths, strict=True):
        with scene.model.guided(strength):
            expected = to_levels(scene.decoded(told[:, :2], told[:, 2:-1]))[0, 0]
        assert np.abs(image - expected.numpy().astype(int)).max() <= 1
    unknown = to_levels(scene.decoded(told[:, :2], torch.zeros(1, 10)))[0, 0].numpy().astype(int)
    assert np.abs(found[2] - unknown).max() <= 1
    assert np.abs(found[1] - found[0]).max() > 10


@pytest.mark.parametrize("guidance", [-0.1, 100.5, float("nan"), float("inf")])
def test_a_guidance_that_is_none_is_refused(opened: dict[str, Opened], guidance: float) -> None:
    with TestClient(create_app(opened["guided"]), "http://127.0.0.1:8420") as client:
        answer = client.post("/api/decode", content=guided_rows([guidance]).tobytes())
    assert answer.status_code == 400
    assert answer.json()["problem"].startswith("give ")


def test_an_own_image_is_encoded_compared_and_placed(client: TestClient, opened: dict[str, Opened]) -> None:
    scene = opened["classes"].scene
    assert scene.images is not None
    assert scene.images.labels is not None
    pixels, label = scene.images.pixels[5, ..., 0].numpy(), int(scene.images.labels[5])
    found = client.post(f"/api/encode?label={label}", content=png(pixels)).json()
    np.testing.assert_allclose(found["code"], scene.codes.means[5], atol=1e-5)
    assert found["neighbours"][0] == 5
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(found["input"]), np.uint8), pixels.reshape(-1))
    output = np.frombuffer(base64.b64decode(found["output"]), np.uint8)
    assert found["error"] == pytest.approx(((output.astype(float) - pixels.reshape(-1)) ** 2).mean() / 255**2, rel=0.02)
    assert 0.0 <= found["worse_than"] <= 1.0
    odd = client.post(f"/api/encode?label={label}", content=png(255 - pixels)).json()
    assert odd["worse_than"] > 0.9
    assert client.post("/api/encode", content=png(pixels)).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8420"}, 200),
        ({"host": "[::1]:8420"}, 200),
        ({"origin": "http://127.0.0.1:8420"}, 200),
        ({"host": "attacker.example"}, 403),
        ({"host": "127.0.0.1.attacker.example:8420"}, 403),
        ({"host": ""}, 403),
        ({"host": "[::1"}, 403),
        ({"origin": "http://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_only_the_explorers_own_page_may_ask(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/data/scene.json", headers=headers).status_code == status


@pytest.mark.parametrize(
    "path",
    ["/data/../../etc/passwd", "/data/%2e%2e/%2e%2e/etc/passwd", "/data/..%2fscene.json", "/../pyproject.toml",
     "/etc/passwd", "/__init__.py", "/data/codes.bin%00", "/data/", "/docs", "/openapi.json",
     "/data/codes.bin/..", "//etc/passwd"],
)  # fmt: skip
def test_no_path_comes_from_the_network(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "body",
    [b"", b"abc", rows(2).tobytes()[:-4], np.full((1, 12), np.nan, "<f4").tobytes(), np.full((1, 12), 1e9, "<f4").tobytes(),
     np.full((1, 12), -np.inf, "<f4").tobytes()],
)  # fmt: skip
def test_rows_that_are_none_are_refused_in_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/decode", content=body)
    assert answer.status_code == 400
    assert "float32" in answer.json()["problem"] or "numbers" in answer.json()["problem"]


def test_too_much_is_not_read(client: TestClient) -> None:
    assert client.post("/api/decode", content=bytes(4 * 12 * 2049)).status_code == 413
    assert client.post("/api/encode?label=1", content=bytes(MOST_UPLOAD + 1)).status_code == 413


def hostile(number: int, random_bytes: random.Random, good: bytes) -> bytes:
    """An upload that is no picture, or a broken one."""
    kind = number % 6
    if kind == 0:
        return random_bytes.randbytes(random_bytes.randrange(2000))
    if kind == 1:
        return good[: random_bytes.randrange(len(good))]
    if kind == 2:
        broken = bytearray(good)
        for _ in range(random_bytes.randrange(1, 30)):
            broken[random_bytes.randrange(len(broken))] = random_bytes.randrange(256)
        return bytes(broken)
    if kind == 3:  # a header that declares huge dimensions
        sides = (random_bytes.choice([0, 1, 100_000, 2**31 - 1]).to_bytes(4, "big") for _ in range(2))
        return good[:16] + b"".join(sides) + good[24:]
    heads = [
        b"GIF89a",
        b"\xff\xd8\xff\xe0",
        b"RIFF....WEBPVP8 ",
        b"II*\x00",
        b"P6 99999 99999 255\n",
        b"PK\x03\x04",
        b"<svg/>",
        b"MZ",
    ]
    head = random_bytes.choice(heads)
    if kind == 4:
        return head + random_bytes.randbytes(random_bytes.randrange(300))
    return b'\x80\x04\x95cos\nsystem\n(S"true"\ntR.' + head


def test_a_thousand_hostile_uploads(client: TestClient) -> None:
    draw = random.Random(0)
    good = png(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    answers = []
    for number in range(1000):
        path = (
            "/api/encode?label=1"
            if number % 7
            else f"/api/encode?label={draw.choice(['x', '-1', '99', '1e9', '../1'])}"
        )
        answer = client.post(path, content=hostile(number, draw, good))
        answers.append(answer.status_code)
        assert answer.status_code in (200, 400, 422), answer.text
        if number % 50 == 0:
            assert client.post("/api/decode", content=rows(1).tobytes()).status_code == 200
    assert answers.count(422) > 700
    assert client.post("/api/encode?label=1", content=good).status_code == 200


@pytest.fixture
def address(opened: dict[str, Opened]) -> str:
    """A server on a port of its own."""
    settings = uvicorn.Config(create_app(opened["classes"]), port=0, log_level="error", limit_concurrency=100)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"  # type: ignore[misc]
    server.should_exit = True
    thread.join(5)


def test_slow_clients_and_garbage_hold_nobody_up(address: str) -> None:
    host, port = address.split(":")
    slow = []
    for number in range(20):
        connection = socket.create_connection((host, int(port)))
        if number % 2:
            connection.sendall(
                f"POST /api/decode HTTP/1.1\r\nHost: {address}\r\nContent-Length: 48\r\n\r\n".encode() + b"x"
            )
        else:
            connection.sendall(b"\x16\x03\x01 garbage \x00\xff\r\n\r\n" if number % 4 else b"GET /")
        slow.append(connection)
    with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
        for _ in range(20):
            assert len(client.post("/api/decode", content=rows(3).tobytes()).content) == 3 * 64
    for connection in slow:
        connection.close()
    assert httpx.get(f"http://{address}/api/training").status_code == 200


def test_many_clients_at_once_each_get_their_own(address: str, opened: dict[str, Opened]) -> None:
    failures: list[str] = []

    def move(number: int) -> None:
        with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            for turn in range(10):
                asked = rows(1 + (number + turn) % 5, label=number % 10)
                answer = client.post("/api/decode", content=asked.tobytes())
                given = torch.from_numpy(asked.copy())
                expected = to_levels(opened["classes"].scene.decoded(given[:, :2], given[:, 2:])).numpy().reshape(-1)
                got = np.frombuffer(answer.content, np.uint8).astype(int)
                if got.shape != expected.shape or np.abs(got - expected).max() > 1:
                    failures.append(f"client {number}, turn {turn}")

    threads = [threading.Thread(target=move, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_class_that_is_none_is_refused(client: TestClient, tmp_path: Path) -> None:
    content = png(np.zeros((8, 8), np.uint8))
    for label in ("10", "-1"):
        assert client.post(f"/api/encode?label={label}", content=content).status_code == 400
