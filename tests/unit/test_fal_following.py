"""Following a job: the stream, what may become of it, and the polling that takes its place."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from urllib3.connection import HTTPConnection
from urllib3.response import BaseHTTPResponse, HTTPResponse

from doubles.fal_server import FalServer, Fault
from doubles.raw_server import RawServer, read_request
from firered_edit.pipeline.errors import AccountError, JobGoneError, RemoteTimeoutError
from firered_edit.pipeline.fal.protocol import events, following, guarding, reading, repeating
from firered_edit.pipeline.fal.protocol.answers import Job, Status, read_status
from firered_edit.pipeline.fal.protocol.client import FalClient, new_session
from firered_edit.pipeline.fal.protocol.events import Events
from firered_edit.pipeline.fal.protocol.hosts import Hosts

STEPS = 4
PAYLOAD = {
    "prompt": "x",
    "image_urls": [
        "data:image/gif;base64,R0lGODdhAQABAIABAP///wAAACwAAAAAAQABAAACAkQBADs="  # one pixel
    ],
    "num_inference_steps": STEPS,
}
LINES = [f"step {number}/{STEPS}" for number in range(1, STEPS + 1)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "RETRY_PAUSE_S", (0.01, 0.05))
    monkeypatch.setattr(reading, "READ_PATIENCE_S", 0.6)
    monkeypatch.setattr(reading, "MISSING_S", 0.1)
    monkeypatch.setattr(reading, "GONE_S", 0.2)
    monkeypatch.setattr(following, "POLL_S", (0.01, 0.02))


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with new_session() as opened:
        yield opened


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every connection that is opened in plain HTTP."""
    opened: list[object] = []
    connect = HTTPConnection.connect

    def counted(self: HTTPConnection) -> None:
        opened.append(self)
        connect(self)

    monkeypatch.setattr(HTTPConnection, "connect", counted)
    return opened


def never() -> bool:
    return False


def client_of(session: requests.Session, url: str, key: str = "a:b") -> FalClient:
    return FalClient(key, Hosts.from_environment({"FAL_QUEUE_RUN_HOST": url}), session)


def ordered(session: requests.Session, server: FalServer) -> tuple[FalClient, Job]:
    client = client_of(session, server.url, server.key)
    return client, client.submit(PAYLOAD, never)


class Heard(list[Status]):
    """What was told, and when COMPLETED was."""

    completed_at = 0.0

    def __call__(self, status: Status) -> None:
        self.append(status)
        if status.state == "COMPLETED":
            self.completed_at = time.monotonic()

    @property
    def lines(self) -> list[str]:
        return [line for status in self for line in status.logs]

    @property
    def states(self) -> list[str]:
        return list(dict.fromkeys(status.state for status in self))


def test_a_stream_tells_everything_once_and_leaves_its_connection(
    session: requests.Session, connections: list[object]
) -> None:
    with FalServer(queue_seconds=0.1, run_seconds=0.1) as server:
        client, job = ordered(session, server)
        heard = Heard()
        client.follow(job, never, heard)
        assert client.result(job, never).urls
        assert heard.states == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
        assert heard.lines == LINES
        assert [heard.states.count("COMPLETED"), heard[-1].state] == [1, "COMPLETED"]
        assert {status.queue_position for status in heard[:1]} <= {1, 2, 3}
        assert [server.count(phase) for phase in ("stream", "status", "result")] == [1, 0, 1]
    assert len(connections) == 1


FAULTS = {
    **{str(code): Fault.answer(code) for code in (404, 405, 500, 503)},
    "reset": Fault.reset(),
    "cut at once": Fault.cut(0),
    "cut": Fault.cut(1),
    "cut late": Fault.cut(3),
    "throttled": Fault.throttle(30),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_stream_that_fails_is_opened_again(session: requests.Session, fault: Fault) -> None:
    with FalServer(run_seconds=0.4) as server:
        client, job = ordered(session, server)
        server.fail("stream", fault)
        heard = Heard()
        client.follow(job, never, heard)
        assert heard[-1].state == "COMPLETED"
        assert heard.lines == LINES
        assert server.count("stream") == (
            1 if fault.kind == "answer" and fault.reply.headers.get("Retry-After") else 2
        )
        assert server.count("submit") == 1


def test_without_a_stream_there_is_polling(session: requests.Session) -> None:
    with FalServer(run_seconds=0.6) as server:
        client, job = ordered(session, server)
        server.fail("stream", Fault.answer(405), 999)
        heard = Heard()
        client.follow(job, never, heard)
        assert heard[-1].state == "COMPLETED"
        assert heard.lines == LINES
        assert server.count("stream") == following.STREAM_TRIES
        assert server.count("status") > following.STREAM_TRIES


def test_a_job_completed_before_a_stream_opens_is_noticed_at_once(
    session: requests.Session,
) -> None:
    with FalServer() as server:
        client, job = ordered(session, server)
        server.fail("stream", Fault.answer(404), 999)
        time.sleep(0.1)
        client.follow(job, never, Heard())
        assert (server.count("stream"), server.count("status")) == (1, 1)


def test_a_stream_without_a_heartbeat_is_dead(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "STREAM_TIMEOUT_S", (1.0, 0.15))
    with FalServer(queue_seconds=0.9, queue_ahead=1) as server:
        client, job = ordered(session, server)
        heard = Heard()
        client.follow(job, never, heard)
        assert heard[-1].state == "COMPLETED"
        assert server.count("stream") > 1


def test_a_heartbeat_keeps_a_stream_alive(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "STREAM_TIMEOUT_S", (1.0, 0.3))
    with FalServer(queue_seconds=0.7, queue_ahead=1, ping_seconds=0.05) as server:
        client, job = ordered(session, server)
        client.follow(job, never, Heard())
        assert (server.count("stream"), server.count("status")) == (1, 0)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_silent_stream_ends_once_stopped(
    session: requests.Session, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FalServer(queue_seconds=60, queue_ahead=1) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        client = client_of(session, server.https_host if secure else server.url, server.key)
        job = client.submit(PAYLOAD, never)
        stopped, heard = threading.Event(), Heard()
        reader = threading.Thread(target=client.follow, args=(job, stopped.is_set, heard))
        reader.start()
        deadline = time.monotonic() + 5
        while not heard and time.monotonic() < deadline:
            time.sleep(0.01)
        stopped.set()
        reader.join(1.0)
        assert not reader.is_alive()
        assert heard.states == ["IN_QUEUE"]
        assert server.count("status") == 0


def test_many_silent_streams_take_one_thread_more_and_leave_none(
    session: requests.Session,
) -> None:
    with FalServer(queue_seconds=60, queue_ahead=1) as server:
        client, job = ordered(session, server)
        stopped, heard = threading.Event(), Heard()
        readers = [
            threading.Thread(target=client.follow, args=(job, stopped.is_set, heard))
            for _ in range(20)
        ]
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + 5
        while len(heard) < len(readers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(_guards()) == 1
        stopped.set()
        for reader in readers:
            reader.join(2.0)
        assert not any(reader.is_alive() for reader in readers)
        time.sleep(3 * guarding.CHECK_S)
        assert not _guards()


def _guards() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "firered-fal-guard"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.answer(404), JobGoneError), (Fault.answer(401), AccountError)],
    ids=["gone", "account"],
)
def test_what_is_final_ends_it(
    session: requests.Session, fault: Fault, error: type[Exception]
) -> None:
    with FalServer(queue_seconds=60) as server:
        client, job = ordered(session, server)
        server.fail("stream", fault, 999)
        server.fail("status", fault, 999)
        with pytest.raises(error):
            client.follow(job, never, Heard())


def test_fal_out_of_reach_for_long_is_an_error(session: requests.Session) -> None:
    with FalServer(queue_seconds=60) as server:
        client, job = ordered(session, server)
    with pytest.raises(RemoteTimeoutError, match="stays ordered"):
        client.follow(job, never, Heard())


def test_polls_that_fail_for_a_while_do_no_harm(session: requests.Session) -> None:
    with FalServer(run_seconds=0.3) as server:
        client, job = ordered(session, server)
        server.fail("stream", Fault.answer(405), 999)
        for fault in (Fault.answer(503), Fault.reset(), Fault.truncate(5), Fault.answer(404)):
            server.fail("status", fault)
        heard = Heard()
        client.follow(job, never, heard)
        assert (heard[-1].state, heard.lines) == ("COMPLETED", LINES)


# A stream of our own -----------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_completed_is_told_at_once_and_the_end_awaited_not_long(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "DRAIN_S", 0.3)

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(chunk(event({"status": "COMPLETED"})))
        connection.recv(1)

    with RawServer(serve) as raw:
        client, heard, began = client_of(session, raw.url), Heard(), time.monotonic()
        client.follow(client.job_named("1"), lambda: bool(heard), heard)
        assert heard.completed_at - began < 0.2
        assert 0.3 <= time.monotonic() - began < 1
        assert [status.state for status in heard] == ["COMPLETED"]


@pytest.mark.parametrize("chunked", [True, False])
def test_events_are_told_as_they_come(session: requests.Session, chunked: bool) -> None:
    documents = [
        {"status": "IN_QUEUE", "queue_position": 2},
        {"status": "DREAMING"},
        "no object",
        {"status": "IN_PROGRESS", "logs": [{"message": "a"}, None, {"message": 5}, "b"]},
        {"status": "IN_PROGRESS", "logs": 5, "queue_position": -1},
    ]
    heard, at_event = Heard(), []
    whole = b": ping\r\n\r\nevent: status\n" + b"".join(map(event, documents)) + b"data: {oops\n\n"

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(
            STREAM + (b"Transfer-Encoding: chunked\r\n" if chunked else b"") + b"\r\n"
        )
        for byte in whole:
            piece = bytes([byte])
            connection.sendall(chunk(piece) if chunked else piece)
        time.sleep(0.2)
        at_event.append(len(heard))
        last = event({"status": "COMPLETED"})
        connection.sendall(chunk(last) + chunk(b"") if chunked else last)

    with RawServer(serve) as raw:
        client = client_of(session, raw.url)
        client.follow(client.job_named("1"), never, heard)
    assert heard == [
        Status("IN_QUEUE", 2),
        Status("IN_PROGRESS", None, ("a",)),
        Status("IN_PROGRESS"),
        Status("COMPLETED"),
    ]
    assert at_event == [3], "told only with the end of the stream"


def read(stream: bytes, size: int) -> list[bytes]:
    reader = Events()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    return [data for piece in pieces for data in reader.feed(piece)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_may_be_cut_anywhere(size: int, end: bytes) -> None:
    lines = [b": ping", b"", b"data: one", b"data:two", b"id: 5", b"", b"data: three", b"", b""]
    assert read(end.join(lines) + b"x", size) == [b"one\ntwo", b"three"]


@pytest.mark.parametrize("size", [1, 16, 10_000])
@pytest.mark.parametrize(
    "large", [b"data: " + b"A" * 500, b"data: AAAAAA\n" * 50], ids=["line", "lines"]
)
def test_a_large_event_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, size: int, large: bytes
) -> None:
    monkeypatch.setattr(events, "MAX_EVENT_BYTES", 100)
    assert read(b"data: 1\n\n" + large + b"\n\ndata: 2\n\n", size) == [b"1", b"2"]


def test_a_line_that_does_not_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT_BYTES", 1000)
    reader = Events()
    for _ in range(100):
        assert not list(reader.feed(b"A" * 500))
        assert len(reader._rest) <= 1000


def test_a_line_is_told_once_whichever_way_it_comes() -> None:
    seen: set[tuple[str, str]] = set()
    first = {"timestamp": "1", "message": "a"}
    second = {"timestamp": "2", "message": "a"}
    told = [
        read_status({"status": "IN_PROGRESS", "logs": logs}, seen)
        for logs in ([first], [first, second], [second], [])
    ]
    assert [status.logs for status in told if status] == [("a",), ("a",), (), ()]


def test_an_older_urllib3_will_do(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (HTTPResponse, BaseHTTPResponse):
        monkeypatch.delattr(kind, "read1")
        monkeypatch.delattr(kind, "shutdown")
    with FalServer(queue_seconds=0.1, run_seconds=0.1) as server:
        client, job = ordered(session, server)
        heard = Heard()
        client.follow(job, never, heard)
        assert (heard.states[-1], heard.lines) == ("COMPLETED", LINES)
        assert client.download(client.result(job, never).urls[0], never)
        assert (server.count("stream"), server.count("status")) == (1, 0)
