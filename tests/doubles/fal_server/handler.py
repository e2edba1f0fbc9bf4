"""HTTP/1.1 on one connection: plain, over TLS, or over TLS inside a CONNECT tunnel."""

import socket
import struct
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from .faults import Fault, corrupted
from .replies import Call, Reply
from .routes import is_fal_host

if TYPE_CHECKING:
    from .listener import Listener

PHRASES = {499: "Client Closed Request"}

CLOSE_WITH_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that turns closing into a reset."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Listener"
    request: socket.socket
    fal_host = ""
    """Set inside a tunnel."""

    def setup(self) -> None:
        if self.server.secure:
            self._wrap()
        super().setup()
        self.server.enter(self)

    def finish(self) -> None:
        self.server.leave(self)
        super().finish()
        # The server closes the socket it accepted; TLS has put another one in its place.
        self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the desk keeps the record."""

    def _exchange(self) -> None:
        call = self._call()
        if call is None:
            self._send(Reply.detail(411, "A Content-Length is required."))
            self.close_connection = True
            return
        fault = self.server.desk.receive(call)
        if fault is None:
            self._send(self.server.desk.answer(call))
        else:
            self._fail(call, fault)

    do_GET = do_POST = do_PUT = _exchange  # noqa: N815 - the names http.server looks for

    def do_CONNECT(self) -> None:  # the name http.server looks for
        host = self.path.partition(":")[0]
        if not is_fal_host(host):
            self._send(Reply.detail(403, f"{host} is no host of fal's"))
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.server.leave(self)
        self.rfile.close()
        self._wrap()
        super().setup()
        self.server.enter(self)
        self.fal_host = host
        # Some clients ask for the tunnel in HTTP/1.0, where a connection ends with its answer.
        self.close_connection = False

    def _wrap(self) -> None:
        # The handshake comes with the first read, which closing the server can interrupt.
        self.request = self.server.authority.context.wrap_socket(
            self.request, server_side=True, do_handshake_on_connect=False
        )

    def _call(self) -> Call | None:
        """The request with its body; None when it does not tell how long that is."""
        if "transfer-encoding" in self.headers:
            return None
        secure = self.server.secure or self.fal_host
        authority = self.headers.get("host", "")
        return Call(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("content-length", 0))),
            origin=f"{'https' if secure else 'http'}://{authority}",
            fal_host=self.fal_host,
        )

    def _fail(self, call: Call, fault: Fault) -> None:
        desk = self.server.desk
        match fault.kind:
            case "answer":
                self._send(fault.reply)
            case "reset":
                self._reset()
            case "lose":
                desk.answer(call)
                self.close_connection = True
            case "truncate":
                self._send(desk.answer(call), keep=fault.keep)
                self.close_connection = True
            case "hang":
                reply = desk.answer(call)
                desk.closing.wait(fault.seconds)
                self._send(reply)
            case "corrupt":
                self._send(corrupted(desk.answer(call)))
            case "cut":
                self._send(desk.answer(call), events=fault.events)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_WITH_RESET)
        # Closed here, for the server would shut it down properly first; and the file before it,
        # for a socket stays open as long as a file of it.
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _send(self, reply: Reply, keep: int | None = None, events: int | None = None) -> None:
        self.send_response(reply.status, PHRASES.get(reply.status))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.events is None:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[:keep])
        else:
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Cache-Control", "no-cache")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._send_events(reply.events, events)

    def _send_events(self, events: Iterator[bytes], limit: int | None) -> None:
        """Send what comes; with a limit, break off without an end after so many events."""
        sent = 0
        while sent != limit:
            event = next(events, b"")
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            if not event:
                return
            sent += event.startswith(b"data:")
        self.close_connection = True
