"""A loopback server that does to a connection what no HTTP server would.

with RawServer(lambda connection, number: connection.sendall(b"...")) as server:
    ...                                     # a client is pointed at server.url
    assert server.connections == 1
"""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

JOIN_SECONDS = 2.0
BUFFER_BYTES = 4096
"""What the kernel takes in for a connection that is not read from; it makes more of it."""

Serve = Callable[[socket.socket, int], None]
"""Is given a connection, and the how manieth it is, from 1. The connection is closed afterwards."""


class RawServer:
    def __init__(self, serve: Serve) -> None:
        self.connections = 0
        self._serve = serve
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._listener.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                self._start(lambda c=connection, n=self.connections: self._attend(c, n))

    def _attend(self, connection: socket.socket, number: int) -> None:
        # A client that leaves is what many a test is about.
        with connection, suppress(OSError):
            self._serve(connection, number)
        self._open.discard(connection)


def read_head(connection: socket.socket) -> tuple[str, bytes]:
    """A request's head, and what has come of its body with it; "" once the client is gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(4096)
        if not piece:
            return "", b""
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def read_request(connection: socket.socket) -> str:
    """A request to its end; its head."""
    head, body = read_head(connection)
    length = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0 and (piece := connection.recv(min(missing, 65536))):
        missing -= len(piece)
    return head


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
