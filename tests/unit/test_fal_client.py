"""fal's protocol over real HTTP: what is sent how often, what is paid, what is told."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from doubles.fal_server import FalServer, Fault
from doubles.fal_server.replies import Reply
from doubles.raw_server import RawServer, answer, read_head, read_request
from firered_edit.pipeline.errors import (
    AccountError,
    JobFailedError,
    JobGoneError,
    RejectedError,
    RemoteError,
    RemoteTimeoutError,
    ResultError,
    UncertainError,
)
from firered_edit.pipeline.fal.protocol import reading, repeating, submitting, transport
from firered_edit.pipeline.fal.protocol.answers import LOOK_FIRST, Job, job_named
from firered_edit.pipeline.fal.protocol.client import FalClient, new_session
from firered_edit.pipeline.fal.protocol.hosts import Hosts
from firered_edit.pipeline.fal.protocol.refusals import _DIALOGS


def _picture(side: int) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


PICTURE = _picture(32)
LARGE = {"prompt": "x", "image_urls": ["data:image/png;base64," + "A" * 24_000_000]}
"""More than the kernel takes off a sender's hands for a receiver that does not read."""

ACCEPTED = answer("200 OK", b'{"request_id": "the-one"}')


def payload(prompt: str = "Make it blue", **changes: Any) -> dict[str, Any]:
    return {"prompt": prompt, "image_urls": [PICTURE], "num_inference_steps": 3, **changes}


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "RETRY_PAUSE_S", (0.01, 0.05))
    monkeypatch.setattr(submitting, "SUBMIT_PATIENCE_S", 0.6)
    monkeypatch.setattr(reading, "READ_PATIENCE_S", 0.6)
    monkeypatch.setattr(reading, "MISSING_S", 0.1)
    monkeypatch.setattr(reading, "GONE_S", 0.2)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with new_session() as opened:
        yield opened


@pytest.fixture(scope="module")
def running() -> Iterator[FalServer]:
    with FalServer() as server:
        yield server


@pytest.fixture
def server(running: FalServer) -> FalServer:
    """The module's server, with nothing on its books."""
    running.requests.clear()
    running.jobs.clear()
    running._desk.faults._planned.clear()
    return running


Connect = Callable[[str], FalClient]


@pytest.fixture
def connect(session: requests.Session, running: FalServer) -> Connect:
    """A client of any address, with the server's key."""

    def make(url: str) -> FalClient:
        named = {"FAL_QUEUE_RUN_HOST": url, "FAL_REST_HOST": url}
        return FalClient(running.key, Hosts.from_environment(named), session)

    return make


@pytest.fixture
def client(server: FalServer, connect: Connect) -> FalClient:
    return connect(server.url)


@pytest.fixture
def job(client: FalClient, server: FalServer) -> Job:
    """A job that is completed."""
    ordered = client.submit(payload(), never)
    _await(lambda: server.jobs[0].outcome is not None)
    return ordered


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Submitting --------------------------------------------------------------------------------------


def test_a_submit_is_one_request_and_one_job(client: FalClient, server: FalServer) -> None:
    job = client.submit(payload(), never)
    assert job == client.job_named(server.jobs[0].request_id)
    assert (server.count("submit"), len(server.jobs)) == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.nginx(502),
        Fault.nginx(503),
        Fault.nginx(504),
        Fault.throttle(0),
        Fault.answer(429, {"detail": "x"}, {"x-fal-request-id": "1"}),
    ],
    ids=["502", "503", "504", "throttle", "429"],
)
def test_what_fal_has_not_accepted_is_sent_again(
    client: FalClient, server: FalServer, fault: Fault
) -> None:
    server.fail("submit", fault, 2)
    client.submit(payload(), never)
    assert (server.count("submit"), len(server.jobs)) == (3, 1)


def test_a_submit_waits_as_long_as_fal_asks(client: FalClient, server: FalServer) -> None:
    server.fail("submit", Fault.throttle(0.5))
    server.fail("submit", Fault.answer(429, None, {"Retry-After": "1"}))
    submitting_since = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        client.submit(payload(), never)
    assert str(caught.value) == (
        "fal has too many requests from this account. Run the edit again later."
    )
    assert time.monotonic() - submitting_since < 0.6, "longer than its patience: not waited for"


def test_a_door_that_stays_shut_is_named(client: FalClient, server: FalServer) -> None:
    server.fail("submit", Fault.nginx(502), 999)
    with pytest.raises(RemoteError) as caught:
        client.submit(payload(), never)
    assert type(caught.value) is RemoteError
    assert str(caught.value) == (
        "fal's front door fails with status 502. Run the edit again later."
    )
    assert server.count("submit") > 3
    assert not server.jobs


BROKE = "The connection broke after the edit was sent: fal may have accepted it."
NAMELESS = "fal's answer to the edit names no request id: it may be accepted."
STATUS = "fal's answer to the edit has the status {}: it may be accepted."

UNCLEAR = {
    "lost answer": (Fault.lose(), BROKE),
    "reset": (Fault.reset(), BROKE),
    "cut answer": (Fault.truncate(10), NAMELESS),
    "500": (Fault.answer(500, {"detail": "boom"}), STATUS.format(500)),
    "500 of an nginx": (Fault.nginx(500), STATUS.format(500)),
    "502 of fal itself": (Fault.answer(502, {"detail": "boom"}), STATUS.format(502)),
    "nginx in words": (
        Fault.answer(503, {"detail": "nginx"}, {"x-fal-request-id": "1"}),
        STATUS.format(503),
    ),
    "408": (Fault.answer(408), STATUS.format(408)),
    "409": (Fault.answer(409), STATUS.format(409)),
    "redirect": (Fault.answer(307, {}, {"Location": "/elsewhere"}), STATUS.format(307)),
    "no id": (Fault.answer(200, {}), NAMELESS),
    "no object": (Fault.answer(200, ["request_id"]), NAMELESS),
    "no text": (Fault.answer(200, {"request_id": 5}), NAMELESS),
    "no word": (Fault.answer(200, {"request_id": "../../x"}), NAMELESS),
    "too long": (Fault.answer(200, {"request_id": "a" * 65}), NAMELESS),
    "no json": (Fault("answer", reply=Reply(200, b"<html>")), NAMELESS),
    "no utf-8": (Fault("answer", reply=Reply(200, b'{"request_id": "\xff"')), NAMELESS),
    "too deep": (Fault("answer", reply=Reply(200, b"[" * 100_000)), NAMELESS),
}


@pytest.mark.parametrize(("fault", "problem"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_fal_may_have_accepted_is_sent_once(
    client: FalClient, server: FalServer, fault: Fault, problem: str
) -> None:
    server.fail("submit", fault)
    with pytest.raises(UncertainError) as caught:
        client.submit(payload(), never)
    assert str(caught.value) == f"{problem} {LOOK_FIRST}"
    assert server.count("submit") == 1
    assert len(server.jobs) <= 1


def test_an_answer_without_end_is_unclear(
    client: FalClient, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_JSON_BYTES", 100)
    with pytest.raises(UncertainError) as caught:
        client.submit(payload(), never)
    problem = "fal's answer to the edit does not end: it may be accepted."
    assert str(caught.value) == f"{problem} {LOOK_FIRST}"
    assert (server.count("submit"), len(server.jobs)) == (1, 1)


def test_an_answer_that_does_not_come_is_unclear(
    client: FalClient, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_S", 0.1)
    server.fail("submit", Fault.hang(0.4))
    with pytest.raises(UncertainError):
        client.submit(payload(), never)
    assert (server.count("submit"), len(server.jobs)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, RejectedError, "no good"),
        (404, RejectedError, "does not offer this model"),
        (405, RejectedError, "does not offer this model"),
        (413, RejectedError, "too large"),
        (415, RejectedError, "no good"),
        (422, RejectedError, "no good"),
        (401, AccountError, "fal.ai/dashboard/keys"),
        (402, AccountError, "fal.ai/dashboard/billing"),
        (403, AccountError, "fal.ai/dashboard/billing"),
    ],
)
def test_a_refusal_is_final(
    client: FalClient, server: FalServer, status: int, kind: type[RemoteError], words: str
) -> None:
    server.fail("submit", Fault.answer(status, {"detail": "no good"}))
    with pytest.raises(kind, match=words):
        client.submit(payload(), never)
    assert server.count("submit") == 1


# A line that breaks ------------------------------------------------------------------------------


def test_a_server_that_comes_up_meanwhile_gets_one_submit(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    late = FalServer(port=port)
    starting = threading.Timer(0.2, late.start)
    starting.start()
    try:
        connect(f"http://127.0.0.1:{port}").submit(payload(), never)
        assert (late.count("submit"), len(late.jobs)) == (1, 1)
    finally:
        starting.join()
        late.close()


def test_nobody_listening(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(RemoteError) as caught:
        connect(f"http://127.0.0.1:{port}").submit(payload(), never)
    assert type(caught.value) is RemoteError
    assert str(caught.value) == (
        "127.0.0.1 refused the connection. Check the internet connection and run again."
    )


def test_a_name_that_is_not_known(
    connect: Connect, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unknown(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = FalClient("a:b", Hosts.from_environment({}), session)
    with pytest.raises(RemoteError, match=r"The name queue\.fal\.run could not be resolved"):
        client.submit(payload(), never)
    assert len(asked) > 1


def test_a_connection_that_does_not_come_about(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CONNECT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        waiting = [socket.socket() for _ in range(4)]
        for visitor in waiting:
            visitor.setblocking(False)
            visitor.connect_ex(deaf.getsockname())
        with pytest.raises(RemoteError, match="did not answer in time") as caught:
            connect(f"http://127.0.0.1:{deaf.getsockname()[1]}").submit(payload(), never)
        for visitor in waiting:
            visitor.close()
    assert type(caught.value) is RemoteError


def test_a_certificate_nobody_vouches_for_is_final(
    connect: Connect, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "SUBMIT_PATIENCE_S", 30.0)
    began = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        connect(server.https_host).submit(payload(), never)
    assert str(caught.value) == (
        "The certificate of localhost is not trusted. Check this computer's clock, and whatever "
        "reads its https: proxy or antivirus."
    )
    assert time.monotonic() - began < 5
    assert not server.requests


def test_a_certificate_bundle_that_is_missing_is_final(
    connect: Connect, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "SUBMIT_PATIENCE_S", 30.0)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(RemoteError, match="could not be asked"):
        connect(server.https_host).submit(payload(), never)


def test_a_proxy_that_does_not_connect(
    connect: Connect, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(RemoteError, match=r"proxy did not connect to example\.org") as caught:
        connect("https://example.org").submit(payload(), never)
    assert type(caught.value) is RemoteError


def test_through_a_proxy(
    session: requests.Session, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    client = FalClient(server.key, Hosts.from_environment({}), session)
    job = client.submit(payload(), never)
    assert job.status_url.startswith("https://queue.fal.run/")
    url = client.result(job, never).urls[0]
    assert client.download(url, never).startswith(b"\x89PNG")
    shown = {(request.phase, request.had_key) for request in server.requests}
    assert shown == {("submit", True), ("result", True), ("get", False)}


def test_a_body_that_did_not_leave_whole_is_sent_again(connect: Connect) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        if number > 1:
            read_request(connection)
            connection.sendall(ACCEPTED)

    with RawServer(serve) as raw:
        assert connect(raw.url).submit(LARGE, never).request_id == "the-one"
        assert raw.connections == 2


def test_a_body_that_left_whole_is_not_sent_again(connect: Connect) -> None:
    with RawServer(lambda connection, _: None) as raw:
        with pytest.raises(UncertainError):
            connect(raw.url).submit({"prompt": "short"}, never)
        assert raw.connections == 1


@pytest.mark.parametrize(
    ("status", "connections"), [("413 Too Large", 1), ("401 No", 1), ("408 Too Slow", 2)]
)
def test_an_answer_before_the_body_has_left_is_read(
    connect: Connect, status: str, connections: int
) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        if number > 1:
            read_request(connection)
            connection.sendall(ACCEPTED)
            return
        read_head(connection)
        connection.sendall(answer(status))
        connection.shutdown(socket.SHUT_WR)

    with RawServer(serve) as raw:
        client = connect(raw.url)
        if connections == 1:
            with pytest.raises((RejectedError, AccountError)):
                client.submit(LARGE, never)
        else:
            assert client.submit(LARGE, never).request_id == "the-one"
        assert raw.connections == connections


@pytest.mark.parametrize(("idle_s", "connections"), [(0.1, 2), (20.0, 1)])
def test_a_connection_that_was_idle_for_long_is_not_used(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, idle_s: float, connections: int
) -> None:
    monkeypatch.setattr(transport, "MAX_IDLE_S", idle_s)

    def serve(connection: socket.socket, _: int) -> None:
        while read_request(connection):
            connection.sendall(ACCEPTED)

    with RawServer(serve) as raw:
        client = connect(raw.url)
        client.submit(payload(), never)
        time.sleep(0.15)
        client.submit(payload(), never)
        assert raw.connections == connections


def test_nothing_is_sent_once_stopped(client: FalClient, server: FalServer) -> None:
    with pytest.raises(RemoteError) as caught:
        client.submit(payload(), lambda: True)
    assert str(caught.value) == "The edit was not sent. Run it again."
    assert not server.requests


def test_no_further_try_once_stopped(
    client: FalClient, server: FalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "SUBMIT_PATIENCE_S", 60.0)
    server.fail("submit", Fault.answer(429, None, {"Retry-After": "30"}))
    pressed = time.monotonic() + 0.1
    with pytest.raises(RemoteError):
        client.submit(payload(), lambda: time.monotonic() > pressed)
    assert time.monotonic() - pressed < 0.5
    assert server.count("submit") == 1


# Whom the key is shown ---------------------------------------------------------------------------

URLS = ("status_url", "response_url", "cancel_url")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://127.0.0.1:1/x",
        "https://queue.fal.run/x",
        "https://[x",
        "{}@evil.example/x",
        "http://evil.example\\@127.0.0.1/x",
        "",
        None,
        5,
    ],
)
def test_a_paid_id_is_kept_and_foreign_addresses_are_not(
    client: FalClient, server: FalServer, url: object
) -> None:
    named = url.format(server.url) if isinstance(url, str) else url
    server.fail("submit", Fault.answer(200, {"request_id": "1", **dict.fromkeys(URLS, named)}))
    job = client.submit(payload(), never)
    assert job == client.job_named("1")
    assert job.cancel_url == (f"{server.url}/fal-ai/firered-image-edit-v1.1/requests/1/cancel")


def test_addresses_of_the_queue_itself_are_kept(client: FalClient, server: FalServer) -> None:
    named = {name: f"{server.url}/elsewhere/{name}" for name in URLS}
    server.fail("submit", Fault.answer(200, {"request_id": "1", **named}))
    assert client.submit(payload(), never) == Job("1", *named.values())


@pytest.mark.parametrize("missing", URLS)
def test_where_an_address_is_missing_all_are_built_anew(
    client: FalClient, server: FalServer, missing: str
) -> None:
    named = {name: f"{server.url}/elsewhere" for name in URLS if name != missing}
    server.fail("submit", Fault.answer(200, {"request_id": "1", **named}))
    assert client.submit(payload(), never) == client.job_named("1")


def test_a_paid_id_is_kept_though_its_answer_is_cut(client: FalClient, server: FalServer) -> None:
    server.fail("submit", Fault.truncate(140))
    job = client.submit(payload(), never)
    assert job == client.job_named(server.jobs[0].request_id)
    assert client.result(job, never).urls


def test_a_journaled_job_is_asked_for_where_the_key_belongs(
    client: FalClient, server: FalServer, job: Job
) -> None:
    evil = "http://127.0.0.1:1/x"
    elsewhere = Job(job.request_id, evil, evil, evil)
    assert client.result(elsewhere, never).urls
    assert client.cancel(elsewhere, never) == "finished"


def test_a_named_job_needs_no_answer() -> None:
    named = job_named(Hosts.from_environment({}), "1")
    assert named.response_url == "https://queue.fal.run/fal-ai/firered-image-edit-v1.1/requests/1"


def test_no_cookie_is_kept(client: FalClient, server: FalServer) -> None:
    server.fail("submit", Fault.answer(429, None, {"Set-Cookie": "a=b", "Retry-After": "0"}))
    client.submit(payload(), never)
    assert "cookie" not in server.jobs[0].headers


# The result --------------------------------------------------------------------------------------

PASSING = {
    "reset": Fault.reset(),
    "lost": Fault.lose(),
    "cut": Fault.truncate(20),
    "no json": Fault("answer", reply=Reply(200, b"<html>")),
    "nginx": Fault.nginx(),
    "too soon": Fault.answer(400, {"detail": "Request is still in progress"}),
    **{
        str(code): Fault.answer(code) for code in (400, 404, 405, 408, 425, 429, 500, 502, 503, 504)
    },
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_result_is_asked_for_again(
    client: FalClient, server: FalServer, job: Job, fault: Fault
) -> None:
    server.fail("result", fault, 2)
    result = client.result(job, never)
    assert (len(result.urls), result.units, result.sizes) == (1, 1, [(32, 32)])
    assert result.inference_s is not None
    assert (server.count("result"), server.count("submit"), server.billed) == (3, 1, 1)


def test_a_result_waits_as_long_as_fal_asks(client: FalClient, server: FalServer, job: Job) -> None:
    server.fail("result", Fault.throttle(0.3))
    server.fail("result", Fault.answer(503, None, {"Retry-After": "30"}))
    began = time.monotonic()
    with pytest.raises(RemoteTimeoutError, match="stays ordered"):
        client.result(job, never)
    assert time.monotonic() - began < 0.6
    assert server.count("result") == 2


def test_a_result_is_not_waited_for_without_end(
    client: FalClient, server: FalServer, job: Job
) -> None:
    server.fail("result", Fault.answer(503), 999)
    with pytest.raises(RemoteTimeoutError, match="stays ordered"):
        client.result(job, never)
    assert server.count("result") > 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("runner_disconnected", "The machine at fal failed"),
        ("runner_server_error", "The machine at fal failed"),
        ("runner_scheduling_failure", "found no machine"),
        ("request_timeout", "did not start"),
        ("startup_timeout", "did not start"),
        ("client_cancelled", "was cancelled"),
        ("internal_error", "fal failed"),
    ],
)
def test_the_jobs_own_failure_is_final(
    client: FalClient, server: FalServer, kind: str, words: str
) -> None:
    job = client.submit(payload(f"[error:{kind}]"), never)
    _await(lambda: server.jobs[0].outcome is not None)
    with pytest.raises(JobFailedError, match=words) as caught:
        client.result(job, never)
    assert getattr(caught.value, "error_type", "") == kind
    assert (server.count("result"), server.billed) == (1, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_inference_steps": 51}, "num_inference_steps: .*less than or equal to 50"),
        ({"image_size": {"width": 0}}, "image_size.width: "),
        ({"prompt": "[policy]"}, "content policy refuses this prompt"),
        ({"image_urls": ["data:image/png;base64," + "A" * 9000]}, "Could not load image"),
    ],
)
def test_what_the_model_rejects_is_told_by_field(
    client: FalClient, server: FalServer, changes: dict[str, Any], words: str
) -> None:
    job = client.submit({**payload(), **changes}, never)
    _await(lambda: server.jobs[0].outcome is not None)
    with pytest.raises(RejectedError, match=words) as caught:
        client.result(job, never)
    assert "AAAA" not in str(caught.value)
    assert not _DIALOGS.search(str(caught.value))


def test_a_job_is_gone_only_after_several_answers(
    client: FalClient, server: FalServer, job: Job
) -> None:
    server.fail("result", Fault.answer(404), 999)
    began = time.monotonic()
    with pytest.raises(JobGoneError):
        client.result(job, never)
    assert server.count("result") >= reading.MISSING_TRIES
    assert time.monotonic() - began >= reading.GONE_S


@pytest.mark.parametrize("code", [401, 402, 403])
def test_a_locked_account_says_so(
    client: FalClient, server: FalServer, job: Job, code: int
) -> None:
    server.fail("result", Fault.answer(code, {"detail": "locked"}, {"x-fal-error-type": "x"}))
    with pytest.raises(AccountError):
        client.result(job, never)


def test_a_redirect_is_not_followed(client: FalClient, server: FalServer, job: Job) -> None:
    server.fail("result", Fault.answer(302, {}, {"Location": f"{server.url}/files/x"}))
    with pytest.raises(RemoteError, match="status 302"):
        client.result(job, never)
    assert server.requests[-1].phase == "result"


def test_an_answer_without_end_is_not_taken_in(
    client: FalClient, server: FalServer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_JSON_BYTES", 100)
    with pytest.raises(ResultError, match="too large"):
        client.result(job, never)


def test_asking_ends_once_stopped(client: FalClient, server: FalServer, job: Job) -> None:
    server.fail("result", Fault.answer(503, None, {"Retry-After": "0"}), 9999)
    pressed = time.monotonic() + 0.1
    with pytest.raises(RemoteTimeoutError):
        client.result(job, lambda: time.monotonic() > pressed)
    assert time.monotonic() - pressed < 0.3


# The picture -------------------------------------------------------------------------------------


@pytest.fixture
def url(client: FalClient, job: Job) -> str:
    return client.result(job, never).urls[0]


@pytest.mark.parametrize(
    "fault",
    [Fault.truncate(40), Fault.reset(), Fault.lose(), Fault.nginx(), Fault.answer(404)],
    ids=["cut", "reset", "lost", "nginx", "404"],
)
def test_a_picture_is_fetched_again_and_without_the_key(
    client: FalClient, server: FalServer, url: str, fault: Fault
) -> None:
    server.fail("get", fault, 2)
    Image.open(io.BytesIO(client.download(url, never))).load()
    fetches = [request for request in server.requests if request.phase == "get"]
    assert [request.authorized for request in fetches] == [False] * 3


def test_a_picture_that_is_gone(client: FalClient, server: FalServer, url: str) -> None:
    server.storage.files.clear()
    with pytest.raises(JobGoneError, match="no longer has the picture"):
        client.download(url, never)
    assert server.count("get") >= 3


def test_a_picture_elsewhere_is_not_fetched(client: FalClient, server: FalServer) -> None:
    with pytest.raises(RemoteError, match="not one of fal's"):
        client.download("http://127.0.0.1:1/x.png", never)


def test_a_picture_is_not_fetched_from_where_it_leads(
    client: FalClient, server: FalServer, url: str
) -> None:
    server.fail("get", Fault.answer(302, {}, {"Location": "http://127.0.0.1:1/"}))
    with pytest.raises(RemoteError, match="status 302"):
        client.download(url, never)


def test_a_picture_without_end_is_not_taken_in(
    client: FalClient, server: FalServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_PICTURE_BYTES", 50)
    with pytest.raises(ResultError, match="too large"):
        client.download(url, never)
    assert server.count("get") == 1


def _endless(connection: socket.socket, _: int) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def test_a_picture_of_many_pieces_is_left_once_stopped(connect: Connect) -> None:
    with RawServer(_endless) as raw:
        pressed = time.monotonic() + 0.2
        with pytest.raises(RemoteTimeoutError):
            connect(raw.url).download(f"{raw.url}/x.png", lambda: time.monotonic() > pressed)
        assert time.monotonic() - pressed < 1


def test_no_more_than_the_most_is_taken_in(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_PICTURE_BYTES", 1_000_000)
    with RawServer(_endless) as raw:
        began = time.monotonic()
        with pytest.raises(ResultError, match="too large"):
            connect(raw.url).download(f"{raw.url}/x.png", never)
        assert time.monotonic() - began < 0.3
        assert raw.connections == 1


# Cancelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [None, Fault.reset(), Fault.answer(503), Fault.answer(404)], ids=str
)
def test_a_cancel_that_is_accepted(connect: Connect, fault: Fault | None) -> None:
    with FalServer(queue_seconds=30) as server:
        client = connect(server.url)
        job = client.submit(payload(), never)
        if fault:
            server.fail("cancel", fault)
        assert client.cancel(job, never) == "accepted"
        assert client.cancel(job, never) == "unknown"
        assert server.billed == 0


def test_a_cancel_that_comes_too_late(client: FalClient, job: Job) -> None:
    assert client.cancel(job, never) == "finished"


@pytest.mark.parametrize("code", [401, 500, 302, 418])
def test_a_cancel_that_does_not_get_through(
    client: FalClient, server: FalServer, job: Job, code: int
) -> None:
    server.fail("cancel", Fault.answer(code), 999)
    assert client.cancel(job, never) == "unreachable"
