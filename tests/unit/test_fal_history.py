"""fal's history, and what is read out of its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from doubles.fal_server import FalServer, Fault
from firered_edit.pipeline.errors import (
    AccountError,
    RejectedError,
    RemoteError,
    RemoteTimeoutError,
    ResultError,
)
from firered_edit.pipeline.fal.protocol import history, repeating
from firered_edit.pipeline.fal.protocol.answers import Answer, read_answer
from firered_edit.pipeline.fal.protocol.client import FalClient, new_session
from firered_edit.pipeline.fal.protocol.history import payload_digest
from firered_edit.pipeline.fal.protocol.hosts import Hosts
from firered_edit.pipeline.fal.protocol.refusals import refused
from firered_edit.pipeline.fal.protocol.repeating import retry_after
from firered_edit.pipeline.fal.protocol.transport import Reply

PAYLOAD = {"prompt": "x", "image_urls": ["data:,"], "guidance_scale": 4.0, "seed": 7}
DIGEST = payload_digest(PAYLOAD)
NAMED = "FAL_QUEUE_RUN_HOST"


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "RETRY_PAUSE_S", (0.01, 0.05))
    monkeypatch.setattr(history, "FIND_PATIENCE_S", 0.4)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with new_session() as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[FalServer]:
    with FalServer(queue_seconds=60) as running:
        yield running


@pytest.fixture
def client(server: FalServer, session: requests.Session) -> FalClient:
    hosts = Hosts.from_environment({NAMED: server.url, "FAL_REST_HOST": server.url})
    return FalClient(server.key, hosts, session)


@pytest.fixture
def since() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=5)


def test_a_lost_request_is_found_by_what_was_asked(
    client: FalClient, server: FalServer, since: datetime
) -> None:
    client.submit({**PAYLOAD, "seed": 8}, never)
    server.fail("submit", Fault.lose())
    with pytest.raises(RemoteError):
        client.submit(PAYLOAD, never)
    found = client.find(DIGEST, since, (), never)
    assert found == server.jobs[1].request_id
    assert client.cancel(client.job_named(found), never) == "accepted"


def test_of_several_the_earliest_that_is_not_known(
    client: FalClient, server: FalServer, since: datetime
) -> None:
    ids = [client.submit(PAYLOAD, never).request_id for _ in range(3)]
    assert client.find(DIGEST, since, (), never) == ids[0]
    assert client.find(DIGEST, since, {ids[0]}, never) == ids[1]
    assert client.find(DIGEST, since, ids, never) is None


def test_what_was_sent_before_is_another_edit(client: FalClient, since: datetime) -> None:
    client.submit(PAYLOAD, never)
    assert client.find(DIGEST, since + timedelta(hours=1), (), never) is None


@pytest.mark.parametrize("pages", [5, 4])
def test_a_history_that_was_not_read_to_its_end_says_nothing(
    client: FalClient,
    server: FalServer,
    since: datetime,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
) -> None:
    monkeypatch.setattr(history, "PAGE", 2)
    monkeypatch.setattr(history, "MAX_PAGES", pages)
    ids = [client.submit({**PAYLOAD, "seed": seed}, never).request_id for seed in range(7, 16)]
    if pages == 5:
        assert client.find(DIGEST, since, (), never) == ids[0]
        return
    with pytest.raises(RemoteTimeoutError, match="too long"):
        client.find(DIGEST, since, (), never)


def test_of_many_requests_only_the_payload_of_an_unknown_one_is_asked_for(
    client: FalClient, server: FalServer, since: datetime
) -> None:
    ids = [client.submit({**PAYLOAD, "seed": seed}, never).request_id for seed in range(7, 67)]
    assert client.find(DIGEST, since, set(ids[1:]), never) == ids[0]
    asked = [request.path for request in server.requests if request.phase == "history"]
    assert ["expand" in path for path in asked] == [False, False, True]


@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.nginx(), Fault.truncate(9), Fault.answer(429)], ids=str
)
def test_a_history_that_fails_is_asked_again(
    client: FalClient, server: FalServer, since: datetime, fault: Fault
) -> None:
    job = client.submit(PAYLOAD, never)
    server.fail("history", fault)
    assert client.find(DIGEST, since, (), never) == job.request_id


@pytest.mark.parametrize(
    "fault",
    [Fault.answer(401), Fault.answer(403), Fault.answer(404), Fault.answer(302)],
    ids=str,
)
def test_a_key_without_a_history_finds_nothing(
    client: FalClient, server: FalServer, since: datetime, fault: Fault
) -> None:
    client.submit(PAYLOAD, never)
    server.fail("history", fault, 999)
    began = time.monotonic()
    assert client.find(DIGEST, since, (), never) is None
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("fault", [Fault.answer(503), Fault.answer(200), Fault.reset()], ids=str)
def test_a_history_that_cannot_be_read_now_is_not_an_empty_one(
    client: FalClient, server: FalServer, since: datetime, fault: Fault
) -> None:
    client.submit(PAYLOAD, never)
    server.fail("history", fault, 999)
    with pytest.raises(RemoteTimeoutError):
        client.find(DIGEST, since, (), never)


def test_malformed_items_are_passed_over(
    client: FalClient, server: FalServer, since: datetime
) -> None:
    good = {"request_id": "good", "sent_at": "2026", "json_input": PAYLOAD}
    items = [None, 5, {}, {**good, "request_id": "../x"}, {**good, "json_input": "x"}, good]
    server.fail("history", Fault.answer(200, {"items": items, "next_cursor": 5}), 2)
    assert client.find(DIGEST, since, (), never) == "good"


def test_no_history_no_request(server: FalServer, session: requests.Session) -> None:
    client = FalClient(server.key, Hosts.from_environment({NAMED: server.url}), session)
    assert not client.has_history
    assert client.find(DIGEST, datetime.now(UTC), (), never) is None
    assert not server.requests


@pytest.mark.parametrize(
    ("environ", "api"),
    [
        ({}, "https://api.fal.ai"),
        ({"FAL_REST_HOST": "https://x.example"}, "https://x.example"),
        ({NAMED: "https://y.example"}, None),
        ({NAMED: "https://y.example", "FAL_REST_HOST": "x.example"}, "https://x.example"),
    ],
)
def test_where_the_history_is(environ: dict[str, str], api: str | None) -> None:
    assert Hosts.from_environment(environ).api == api


@pytest.mark.parametrize(
    ("payload", "same"),
    [
        ({"seed": 7.0, "guidance_scale": 4, "image_urls": ["data:,"], "prompt": "x"}, True),
        ({**PAYLOAD, "guidance_scale": 4.5}, False),
        ({**PAYLOAD, "seed": True}, False),
        ({**PAYLOAD, "extra": None}, False),
    ],
)
def test_a_digest_is_of_what_is_meant(payload: dict[str, Any], same: bool) -> None:
    assert (payload_digest(payload) == DIGEST) is same


# Addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://v3.fal.media",
        "https://evil.example",
        "https://evil.example\\@fal.media",
        "https://a:b@fal.media",
        "https://fal.media.evil.example",
        "https://fal.media\n.evil.example",
        "",
    ],
)
def test_uploads_go_nowhere_else(url: str) -> None:
    hosts = Hosts.from_environment({})
    with pytest.raises(RemoteError, match="not one of fal's"):
        hosts.check_upload_base(url)
    with pytest.raises(RemoteError, match="not one of fal's"):
        hosts.check_picture_url(url)


@pytest.mark.parametrize("url", ["https://v3.fal.media", "https://rest.fal.ai", "http://[::1]:9"])
def test_uploads_go_to_fal_or_the_named_host(url: str) -> None:
    hosts = Hosts.from_environment({"FAL_REST_HOST": "http://[::1]:9"})
    assert hosts.check_upload_base(url) == url


def test_a_queue_with_a_login_in_its_address_trusts_no_malformed_one() -> None:
    hosts = Hosts.from_environment({NAMED: "https://a:b@proxy.example"})
    for check in (hosts.check_job_url, hosts.check_picture_url):
        with pytest.raises(RemoteError):
            check("https://[x")


# Answers -----------------------------------------------------------------------------------------


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, headers, json.dumps(document).encode())


RESULT = {
    "images": [{"url": "https://fal.media/1", "width": 64, "height": 32}, {"url": "https://b"}],
    "has_nsfw_concepts": [False, True],
    "seed": 7,
    "prompt": "x",
    "timings": {"inference": 1.5, "bad": None},
}


@pytest.mark.parametrize(
    ("units", "read"),
    [("2", 2.0), ("0.5", 0.5), ("0", 0.0), ("nan", None), ("inf", None), ("-1", None), ("x", None)],
)
def test_billed_units(units: str, read: float | None) -> None:
    assert read_answer(reply(RESULT, **{"x-fal-billable-units": units})).units == read


def test_an_answer_goes_through_a_file() -> None:
    answer = read_answer(reply(RESULT, **{"x-fal-billable-units": "2"}))
    assert answer.sizes == [(64, 32), None]
    assert answer.inference_s == 1.5
    assert Answer.from_document(json.loads(json.dumps(answer.to_document()))) == answer


@pytest.mark.parametrize("width", [0, -1, 1.5, "64", True, None])
def test_a_size_that_is_none(width: object) -> None:
    image = {"url": "x", "width": width, "height": 32}
    assert read_answer(reply({"images": [image]})).sizes == [None]


def test_pictures_do_not_go_into_the_file() -> None:
    answer = read_answer(reply({"images": [{"url": "DATA:image/png;base64,AA"}]}))
    with pytest.raises(ValueError, match="inside"):
        answer.to_document()


@pytest.mark.parametrize("document", [{}, {"images": []}, {"images": 5}, {"images": [{"url": 5}]}])
def test_an_answer_without_pictures(document: dict[str, Any]) -> None:
    with pytest.raises(ResultError):
        read_answer(reply(document))
    with pytest.raises(ValueError, match="without a picture"):
        Answer.from_document(document)


DIALOGS = [
    "Unauthorized: Please login first to use this node.",
    "Payment Required: x",
    "Rate Limit Exceeded: x",
    "The generated image was flagged for content policy violation.",
    "Your request was flagged by our content moderation system",
    "CUDA out of memory",
    "Allocation on device",
    "Field 'prompt' cannot be empty.",
]
KEY = "identity:secret-half"


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize(
    "words", [*DIALOGS, KEY, "secret-half", "A" * 100, "A" * 500, "data:x,AAAA"]
)
def test_words_that_are_not_shown(status: int, words: str) -> None:
    listed = [{"loc": ["body", "prompt"], "msg": words}]
    for detail in (words, listed):
        shown = str(refused(reply({"detail": detail}, status), KEY))
        assert words not in shown
        assert len(shown) <= 300


@pytest.mark.parametrize("body", [b"", b"<html>secret</html>", b"[1]", b'{"detail": {"a": 1}}'])
def test_bodies_are_not_echoed(body: bytes) -> None:
    error = refused(Reply(403, {}, body), KEY)
    assert isinstance(error, AccountError)
    assert "status 403 Forbidden" in str(error)


def test_fields_are_named() -> None:
    detail = [{"loc": ["body", "image_size", "width"], "msg": "too small"}, {"msg": "odd"}, 5]
    error = refused(reply({"detail": detail}, 422), KEY)
    assert isinstance(error, RejectedError)
    assert "image_size.width: too small; request: odd." in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2), ("0", 0), ("9999", 120), ("-1", None), ("x", None), ("", None), ("1.5", None)],
)
def test_how_long_fal_asks_to_wait(value: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_fal_may_name_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"Retry-After": date}) == pytest.approx(30, abs=2)
    assert retry_after({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}) == 0
