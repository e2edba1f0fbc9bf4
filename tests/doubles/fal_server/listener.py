"""A listening socket, its connections, and an end to all of them."""

import socket
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from .desk import Desk
from .handler import Handler
from .tls import Authority

POLL_SECONDS = 0.02
"""How often the accept loop looks whether to end; a test waits for it."""

JOIN_SECONDS = 2.0


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, desk: Desk, authority: Authority, *, secure: bool) -> None:
        self.desk = desk
        self.authority = authority
        self.secure = secure
        self.defects: list[BaseException] = []
        self._lock = threading.Lock()
        self._closing = False
        self._handlers: set[Handler] = set()
        self._serving: list[threading.Thread] = []
        super().__init__(("127.0.0.1", port), Handler)
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(POLL_SECONDS,), daemon=True
        )
        self._accepting.start()

    @property
    def port(self) -> int:
        return self.server_port

    def server_bind(self) -> None:
        # The inherited method asks the resolver for this machine's name, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._serving = [known for known in self._serving if known.is_alive()]
        self._serving.append(thread)
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that leaves, or that does not trust the certificate, is no defect of ours.
        if error is not None and not isinstance(error, OSError):
            self.defects.append(error)

    def enter(self, handler: Handler) -> None:
        with self._lock:
            self._handlers.add(handler)
            if self._closing:
                _hang_up(handler)

    def leave(self, handler: Handler) -> None:
        with self._lock:
            self._handlers.discard(handler)

    def close(self) -> None:
        self.shutdown()
        with self._lock:
            self._closing = True
            for handler in self._handlers:
                _hang_up(handler)
        for thread in [self._accepting, *self._serving]:
            thread.join(JOIN_SECONDS)
        self.server_close()


def _hang_up(handler: Handler) -> None:
    """Wake a handler that waits for its client's next request.

    Past the TLS layer: its own shutdown must not be called while another thread reads.
    """
    with suppress(OSError):
        socket.socket.shutdown(handler.request, socket.SHUT_RDWR)
