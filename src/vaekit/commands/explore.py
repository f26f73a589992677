"""`vaekit explore`: the live explorer in the browser."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
import webbrowser
from typing import TYPE_CHECKING

from vaekit.commands.arguments import Parser
from vaekit.errors import InputError
from vaekit.records import print_json

if TYPE_CHECKING:
    import uvicorn

_PORT, _TRIES = 8420, 20
_MOST_CLIENTS = 200


def explore_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.number("--points", 10_000, "most images on the map", least=50, most=200_000)
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="own images on the map in place of the run's: a folder or archive of images, .npy, or .npz with labels",
    )
    parser.number("--port", None, "port to listen on", least=0, most=65535, unset="8420 or the next free")
    parser.add_argument(
        "--host", metavar="NAME", default="127.0.0.1", help="address to listen on [127.0.0.1: this machine alone]"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser, print the address alone")
    parser.data_dir()
    parser.json("the address")
    options = parser.read(words)
    listening = _listening(options.host, options.port)

    import torch
    import uvicorn

    from vaekit.explorer.opened import Opened
    from vaekit.explorer.server import create_app

    with listening:
        print("opening the model and reading its images", file=sys.stderr)
        opened = Opened(options.run, options.data_dir, options.points, options.images)
        opened.scene.description  # noqa: B018  # computed before anybody asks
        torch.set_num_threads(1)  # a single image gains nothing from more, and waits for them where cores are busy
        if opened.note:
            print(f"vaekit: note: {opened.note}", file=sys.stderr)
        address = f"http://{_shown(options.host)}:{listening.getsockname()[1]}/"
        settings = uvicorn.Config(
            create_app(opened, options.host),
            log_level="warning",
            access_log=False,
            limit_concurrency=_MOST_CLIENTS,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=2,
            server_header=False,
            ws="none",
        )
        if options.json:
            print_json({"address": address})
        else:
            print(address)
        sys.stdout.flush()
        print("press Ctrl+C to stop", file=sys.stderr)
        if not options.no_browser:
            webbrowser.open(address)
        _serve(uvicorn.Server(settings), listening)


def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def _shown(host: str) -> str:
    """The host in an address; of one that means every interface, this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens, on the port asked for or the first that is free."""
    for wanted in range(_PORT, _PORT + _TRIES) if port is None else (port,):
        # with its protocol named, else asyncio leaves Nagle's delay on and each answer waits 40 ms for an acknowledgement
        found = socket.socket(_family(host), socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, wanted))
            found.listen(128)
            return found
        except OSError as problem:
            found.close()
            if isinstance(problem, socket.gaierror) or problem.errno == errno.EADDRNOTAVAIL:
                raise InputError(f"--host {host!r}: is no address of this machine; give 127.0.0.1 or 0.0.0.0") from None
            reason = problem.strerror or problem
    ports = f"{_PORT} to {_PORT + _TRIES - 1} are" if port is None else f"{port} is"
    raise InputError(f"--port: {ports} not to be had on {host} ({reason}); give another, or 0 for any that is free")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
