"""The relay that makes loopback a long line: its delay, and that it costs nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from support.slow_line import SlowLine

ROUND_TRIP_S = 0.1

SLACK_S = 0.05
"""What a busy machine may add to the best of so many tries."""
TRIES = 5


def _echo(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_repeat, args=[connection], daemon=True).start()


def _repeat(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


@pytest.fixture
def line() -> Iterator[SlowLine]:
    """A long line to somebody who repeats every word and hangs up after the caller."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        threading.Thread(target=_echo, args=[listener], daemon=True).start()
        with SlowLine(listener.getsockname()[1], ROUND_TRIP_S) as line:
            yield line
        _wake(listener)


def _wake(listener: socket.socket) -> None:
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _call(line: SlowLine) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), 10.0)


def _round_trip(caller: socket.socket, started: float | None = None) -> float:
    """Seconds until a word comes back, from now or from ``started``."""
    started = started or time.monotonic()
    caller.sendall(b"word")
    assert caller.recv(16) == b"word"
    return time.monotonic() - started


def test_a_round_trip_takes_its_time_and_connecting_takes_one_more(line: SlowLine) -> None:
    first, later = [], []
    for _ in range(TRIES):
        started = time.monotonic()
        with _call(line) as caller:
            first.append(_round_trip(caller, started))
            later.append(_round_trip(caller))
    assert 2 * ROUND_TRIP_S <= min(first) < 2 * ROUND_TRIP_S + SLACK_S
    assert ROUND_TRIP_S <= min(later) < ROUND_TRIP_S + SLACK_S
    assert line.opened == TRIES


def test_the_round_trip_may_change_under_a_connection(line: SlowLine) -> None:
    with _call(line) as caller:
        assert _round_trip(caller) >= ROUND_TRIP_S
        line.round_trip_s = 0.0
        assert min(_round_trip(caller) for _ in range(TRIES)) < SLACK_S


def test_the_delay_costs_no_throughput_and_no_byte(line: SlowLine) -> None:
    sent = bytes(range(256)) * 65536
    with _call(line) as caller:
        started = time.monotonic()
        threading.Thread(target=caller.sendall, args=[sent], daemon=True).start()
        come = bytearray()
        while len(come) < len(sent):
            come += caller.recv(65536)
        spent = time.monotonic() - started
    assert come == sent
    assert spent < 8.0, "one chunk at a time, it would take over 25 s"


def test_connections_do_not_wait_for_each_other(line: SlowLine) -> None:
    def once(_: int) -> float:
        with _call(line) as caller:
            return _round_trip(caller)

    with ThreadPoolExecutor(16) as callers:
        started = time.monotonic()
        list(callers.map(once, range(16)))
    assert time.monotonic() - started < 1.5, "one after the other, they would take over 3 s"
    assert line.opened == 16


def test_an_end_is_passed_on_after_what_was_said(line: SlowLine) -> None:
    with _call(line) as caller:
        caller.sendall(b"last words")
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(16) == b"last words"
        assert caller.recv(16) == b""


def test_a_caller_who_leaves_takes_nothing_down(line: SlowLine) -> None:
    with _call(line) as caller:
        caller.sendall(b"word" * 1000)
    with _call(line) as caller:
        assert _round_trip(caller) >= ROUND_TRIP_S


def test_nobody_at_the_far_end_is_an_end() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with SlowLine(port) as line, _call(line) as caller, suppress(ConnectionResetError):
        assert caller.recv(16) == b""


def test_closing_ends_every_connection_and_thread() -> None:
    before = set(threading.enumerate())
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        with SlowLine(listener.getsockname()[1], 60.0) as line:
            caller = _call(line)
            accepted, _ = listener.accept()
            started = time.monotonic()
        with caller, accepted, suppress(ConnectionResetError):
            assert caller.recv(16) == b""
    assert time.monotonic() - started < 10.0
    assert set(threading.enumerate()) <= before
