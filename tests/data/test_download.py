"""Downloads through a real HTTP server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("pooch")

from vaekit.data.download import VARIABLE, data_folder, fetch, verify
from vaekit.errors import InputError

CONTENT = gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab", mtime=0)  # it names tests, which every worker must name alike
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves `pages` and notes what it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                page = outer.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def mirrors(server: Server) -> tuple[str, str]:
    return f"{server.url}/first/", f"{server.url}/second/"


def test_a_file_is_downloaded_once_into_the_cache(server: Server, tmp_path: Path) -> None:
    server.pages["/first/a.gz"] = CONTENT
    for _ in range(2):
        path = fetch("things", "a.gz", MD5, mirrors(server), None)
        assert path.read_bytes() == CONTENT
        assert path.is_relative_to(tmp_path / "cache")
        assert "things" in path.parts
    assert server.asked == ["/first/a.gz"]


def test_the_second_mirror_serves_where_the_first_has_nothing(server: Server) -> None:
    server.pages["/second/a.gz"] = CONTENT
    assert fetch("things", "a.gz", MD5, mirrors(server), None).read_bytes() == CONTENT
    assert server.asked == ["/first/a.gz", "/second/a.gz"]


@pytest.mark.parametrize("wrong", [CONTENT[:-1], b"<html>sign in</html>", b""])
def test_the_second_mirror_serves_where_the_first_is_corrupt(server: Server, wrong: bytes) -> None:
    server.pages |= {"/first/a.gz": wrong, "/second/a.gz": CONTENT}
    assert fetch("things", "a.gz", MD5, mirrors(server), None).read_bytes() == CONTENT


def test_corrupt_everywhere_is_one_sentence_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.pages |= {"/first/a.gz": b"x", "/second/a.gz": b"y"}
    with pytest.raises(InputError, match=r"^things: a.gz could not be downloaded") as error:
        fetch("things", "a.gz", MD5, mirrors(server), None)
    assert "\n" not in str(error.value)
    assert "--data-dir" in str(error.value)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_nothing_reachable_is_one_sentence(server: Server, tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9/data/"
    with pytest.raises(InputError, match="could not be downloaded") as error:
        fetch("things", "a.gz", MD5, (closed, closed), None)
    assert "\n" not in str(error.value)
    assert "127.0.0.1:9" in str(error.value)
    folder = tmp_path / "data"
    with pytest.raises(InputError, match=f"a.gz is not in {folder / 'things'} and could not be downloaded"):
        fetch("things", "a.gz", MD5, (closed,), folder)


def test_a_damaged_cache_is_mended(server: Server) -> None:
    server.pages["/first/a.gz"] = CONTENT
    path = fetch("things", "a.gz", MD5, mirrors(server), None)
    path.write_bytes(CONTENT[:-3])
    assert fetch("things", "a.gz", MD5, mirrors(server), None).read_bytes() == CONTENT


def test_a_local_file_needs_no_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a.gz").write_bytes(CONTENT)
    assert fetch("things", "a.gz", MD5, mirrors(server), tmp_path) == tmp_path / "things" / "a.gz"
    assert server.asked == []


def test_a_missing_local_file_is_downloaded(server: Server, tmp_path: Path) -> None:
    server.pages["/first/a.gz"] = CONTENT
    assert fetch("things", "a.gz", MD5, mirrors(server), tmp_path).read_bytes() == CONTENT


def test_checksum_mismatch_names_both(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"other")
    other = hashlib.md5(b"other").hexdigest()
    with pytest.raises(InputError, match=f"a.gz: checksum {other} is not the official {MD5}"):
        verify(path, MD5)
    path.write_bytes(CONTENT)
    verify(path, MD5)


def test_the_folder_is_the_argument_then_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert data_folder(None) == tmp_path
    assert data_folder(other) == other
    with pytest.raises(InputError, match=r"^--data-dir: folder .*nowhere.* does not exist"):
        data_folder(tmp_path / "nowhere")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(InputError, match=f"^{VARIABLE}: folder .*gone.* does not exist"):
        data_folder(None)
    monkeypatch.delenv(VARIABLE)
    assert data_folder(None) is None
