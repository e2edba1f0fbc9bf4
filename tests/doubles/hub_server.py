"""A hub on loopback that serves one model folder, so well that ``huggingface_hub`` uses it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    range: str | None
    authorized: bool


@dataclass
class HubServer:
    """Serves ``folder`` as ``repository`` at ``revision``; tests change what it does."""

    folder: Path
    repository: str
    revision: str
    port: int = 0
    requests: list[Asked] = field(default_factory=list)
    status: int = 200
    """Anything else is the answer to every request."""
    cut: tuple[str, int] | None = None
    """A file, and after how many of its bytes the connection breaks; from then on it is 503."""
    damaged: str = ""
    """A file that arrives with other bytes than the list says."""
    page: bytes = b""
    """What answers instead of the list, as a captive portal's page does."""
    ignores_ranges: bool = False
    offered_revision: str = ""
    """The commit that the list is of, if not the one asked for."""
    delay: float = 0.0
    """Seconds before every answer."""

    def __enter__(self) -> Self:
        self._server = _Listener(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,))
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetched(self) -> list[str]:
        """The files asked for so far, in order."""
        head = f"/{self.repository}/resolve/{self.revision}/"
        paths = [asked.path for asked in self.requests]
        return [path.removeprefix(head) for path in paths if path.startswith(head)]

    @cached_property
    def files(self) -> dict[str, Path]:
        found = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    def listing(self) -> dict[str, Any]:
        """What ``/api/models/<repository>/revision/<revision>?blobs=true`` answers."""
        return {
            "id": self.repository,
            "sha": self.offered_revision or self.revision,
            "siblings": [_sibling(name, path) for name, path in self.files.items()]
            # Names that must never become files.
            + [{"rfilename": "../escape.json", "size": 2, "blobId": "0" * 40}],
        }

    def content(self, name: str) -> bytes:
        data = self.files[name].read_bytes()
        return data[::-1] if name == self.damaged else data

    def named(self, digest: str) -> str:
        """The large file with that sha256: the delivery network knows files by nothing else."""
        return next(name for name, path in self.files.items() if _sha256(path) == digest)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", "tokenizer.json"))


def _sibling(name: str, path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    described: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
    if _is_large(name):
        # The blob that git keeps of a large file is only a pointer to it.
        described["blobId"] = hashlib.sha1(name.encode()).hexdigest()
        described["lfs"] = {"sha256": _sha256(path), "size": len(data), "pointerSize": 134}
    return described


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that cancels leaves in the middle of an answer."""


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The hub keeps the record."""

        def do_GET(self) -> None:  # the name http.server looks for
            path = unquote(urlsplit(self.path).path)
            authorized = "authorization" in self.headers
            hub.requests.append(Asked(path, self.headers["Range"], authorized))
            time.sleep(hub.delay)
            resolve = f"/{hub.repository}/resolve/{hub.revision}/"
            if hub.status != 200:
                self._send(hub.status, b"{}")
            elif path == f"/api/models/{hub.repository}/revision/{hub.revision}":
                self._send(200, hub.page or json.dumps(hub.listing()).encode())
            elif path.startswith("/cdn/"):
                self._send_file(hub.named(path.removeprefix("/cdn/")))
            elif (name := path.removeprefix(resolve)) not in hub.files:
                self._send(404, b"{}", **{"X-Error-Code": "EntryNotFound"})
            elif _is_large(name):
                digest = _sha256(hub.files[name])
                self._send(302, b"", Location=f"{hub.url}/cdn/{digest}", **_linked(name))
            else:
                self._send_file(name)

        def _send_file(self, name: str) -> None:
            data, start, status = hub.content(name), 0, 200
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if asked and not hub.ignores_ranges:
                start, status = int(asked[1]), 206
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            if hub.cut and hub.cut[0] == name:
                self._break_off(data, hub.cut[1])
            else:
                self._send(status, data[start:], **(headers if status == 206 else {}))

        def _break_off(self, data: bytes, after: int) -> None:
            hub.status = 503
            self._send(200, data[:after], length=len(data))
            self.close_connection = True

        def _send(
            self, status: int, body: bytes, length: int | None = None, **headers: str
        ) -> None:
            self.send_response(status)
            headers["Content-Length"] = str(len(body) if length is None else length)
            headers["X-Repo-Commit"] = hub.revision
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    def _linked(name: str) -> dict[str, str]:
        path = hub.files[name]
        return {"X-Linked-Etag": f'"{_sha256(path)}"', "X-Linked-Size": str(path.stat().st_size)}

    return Handler
