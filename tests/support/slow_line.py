"""A long line on loopback: a relay that delays every byte and loses none.

    with SlowLine(server.port, round_trip_s=0.04) as line:
        ...                                 # a client is pointed at 127.0.0.1:line.port

Each way takes half the round trip. Chunks travel one behind the other, however many are under way,
so the delay costs no throughput, and no connection waits for another.

Connecting takes a round trip on a real line before the first byte may leave. The kernel accepts at
once here, so that round trip is added to the first chunk of the client instead: what a client that
speaks first waits for, in plain HTTP and in TLS, comes out the same.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

CHUNK_BYTES = 64 * 1024

MOST_CHUNKS = 1024
"""Under way at once in one direction; a sender that is faster yet is held back."""

JOIN_SECONDS = 2.0


class _Chunk(NamedTuple):
    due: float
    data: bytes
    """Empty where the sender has nothing more to say."""


class SlowLine:
    """Relays 127.0.0.1:``port`` to 127.0.0.1:``target``. ``round_trip_s`` may be changed live."""

    def __init__(self, target: int, round_trip_s: float = 0.0) -> None:
        self.round_trip_s = round_trip_s
        self.opened = 0
        """Connections so far."""
        self._target = ("127.0.0.1", target)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._accepting = self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, whatever is still under way."""
        with self._lock:
            self._closing.set()
            for end in self._sockets:
                _hang_up(end)
        # What wakes the thread that accepts differs between systems; a last visitor always does.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            pass
        self._accepting.join(JOIN_SECONDS)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._closing.is_set():
                near.close()
                return
            self.opened += 1
            self._start(self._serve, near, time.monotonic() + self.round_trip_s)

    def _serve(self, near: socket.socket, established: float) -> None:
        """One connection, from both its ends' being there to both their being done."""
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            if not self._enter(near, far):
                return
            ways = [
                self._start(self._carry, near, far, established),
                self._start(self._carry, far, near, established),
            ]
            for way in ways:
                way.join()
            self._leave(near, far)

    def _carry(self, source: socket.socket, target: socket.socket, earliest: float) -> None:
        """Everything from ``source`` to ``target``, none of it sent before ``earliest``."""
        under_way: queue.Queue[_Chunk] = queue.Queue(MOST_CHUNKS)
        delivery = self._start(self._deliver, under_way, target)
        data = b"?"
        while data:
            try:
                data = source.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            sent = max(time.monotonic(), earliest)
            under_way.put(_Chunk(sent + self.round_trip_s / 2, data))
        delivery.join()

    def _deliver(self, under_way: queue.Queue[_Chunk], target: socket.socket) -> None:
        """Hand each chunk on when it is due, and the end after the last one."""
        gone = False
        while (chunk := under_way.get()).data:
            if not gone:
                self._until(chunk.due)
                try:
                    target.sendall(chunk.data)
                except OSError:
                    # Nobody listens any more; emptied all the same, or the sender would stand.
                    gone = True
                    _hang_up(target)
        self._until(chunk.due)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _until(self, due: float) -> None:
        self._closing.wait(max(0.0, due - time.monotonic()))

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
        return thread

    def _enter(self, *ends: socket.socket) -> bool:
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.update(ends)
            return not self._closing.is_set()

    def _leave(self, *ends: socket.socket) -> None:
        with self._lock:
            self._sockets.difference_update(ends)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
