"""A small Hugging Face Hub on this machine: what `push` and `pull` ask of the real one, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, COMMIT = "hf_test", "a" * 40


@dataclass
class Hub:
    """What the server holds.

    Attributes:
        url: where it listens.
        repositories: files by repository and path.
        stored: contents sent as large files, by SHA-256, before a commit names them.
        private: repositories that were made so.
        asked: every request, as ``METHOD path``.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Hub]:
    """A running hub without repositories."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            """Keep the tests' output clean."""

        def answer(self, code: int, body: bytes | Any = b"", **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_POST(self) -> None:
            content, path = self.body(), self.path.split("?")[0]
            hub.asked.append(f"POST {path}")
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"error": "Invalid username or password."})
            if path == "/api/repos/create":
                asked = json.loads(content)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.repositories.setdefault(name, {})
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(name)
                return self.answer(200, {"url": f"{hub.url}/{name}", "name": name})
            if path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.url}/store/{each['oid']}", "header": {}}}}
                    for each in json.loads(content)["objects"]
                ]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            name, _, action = path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")
            if name not in hub.repositories:
                return self.answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")
            if action == "preupload":
                modes = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith((".safetensors", ".png")) else "regular",
                        "shouldIgnore": False,
                    }
                    for each in json.loads(content)["files"]
                ]
                return self.answer(200, {"files": modes})
            assert action == "commit", path
            for line in map(json.loads, content.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.repositories[name][value["path"]] = hub.stored[value["oid"]]
            return self.answer(
                200, {"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            )

        def do_PUT(self) -> None:
            content = self.body()
            hub.asked.append(f"PUT {self.path}")
            hub.stored[hashlib.sha256(content).hexdigest()] = content
            self.answer(200)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            hub.asked.append(f"{self.command} {path}")
            about = path.startswith("/api/models/")
            split = "/revision/" if about else "/resolve/"
            name, _, rest = path.removeprefix("/api/models/" if about else "/").partition(split)
            revision, _, file = rest.partition("/")
            if name not in hub.repositories:
                return self.answer(404, b"", X_Error_Code="RepoNotFound")
            if revision not in ("", "main", COMMIT):
                return self.answer(404, b"", X_Error_Code="RevisionNotFound")
            if about:
                return self.answer(200, {"id": name, "sha": COMMIT, "siblings": []})
            if file not in hub.repositories[name]:
                return self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            content = hub.repositories[name][file]
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(200, content, ETag=tag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
