"""Whatever fal answers: the right picture or an error that says what to do, and one bill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doubles.fal_server.replies import Reply
from doubles.raw_server import RawServer, read_request
from firered_edit.pipeline.errors import MAX_LENGTH, RemoteError, ResultError
from firered_edit.pipeline.fal.payload import body_length
from firered_edit.pipeline.fal.pricing import (
    PRICE_PER_MEGAPIXEL,
    Budget,
    CostError,
    DailyLimit,
    cost_of,
    dollars,
    estimate,
)
from firered_edit.pipeline.fal.protocol import events, transport
from firered_edit.pipeline.fal.protocol.answers import (
    Answer,
    billed_units,
    is_request_id,
    read_answer,
    read_object,
    read_status,
)
from firered_edit.pipeline.fal.protocol.history import payload_digest
from firered_edit.pipeline.fal.protocol.hosts import Hosts, origin_of
from firered_edit.pipeline.fal.protocol.refusals import REJECTED, job_failed, refused
from firered_edit.pipeline.fal.protocol.repeating import MAX_RETRY_AFTER_S, retry_after
from firered_edit.pipeline.fal.uploads.exchange import Failed, read_text
from firered_edit.pipeline.fal.uploads.tokens import read_token
from firered_edit.pipeline.geometry import Size
from support.fal_artist import Scenario, meet
from support.fal_fixtures import Listener
from support.fal_mishaps import document, move_picture, rewriting
from support.fuzz_json import HOSTILE_URLS, KEY, MUTATIONS, SECRET, VALUES, rendered
from support.fuzz_replies import OVERSIZED, Wrong, bomb, oversized
from support.fuzz_trials import PHASES, Fuzz, fuzzing

SEED = 20
TRIALS = 8
"""For each phase; the long form is ``hatch run trust-fal``."""

FAL = Hosts.from_environment({})
OWN = Hosts.from_environment({"FAL_QUEUE_RUN_HOST": "http://127.0.0.1:8080"})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
few = settings(max_examples=40)
"""For what takes long to make up."""

WORDS = st.text(st.characters(exclude_categories=["Cs"]))


# The engine, over real HTTP -------------------------------------------------------------------


@pytest.fixture
def fuzz(tmp_path: Path) -> Iterator[Fuzz]:
    with fuzzing(tmp_path / "data", SEED) as stage:
        yield stage


@pytest.mark.parametrize("phase", PHASES)
def test_wrong_answers(fuzz: Fuzz, phase: Any) -> None:
    first = TRIALS * PHASES.index(phase)
    for number in range(first, first + TRIALS):
        met = fuzz.meet(number, phase)
        assert not met.broken, str(met)


@pytest.mark.parametrize("phase", PHASES)
def test_what_does_not_end_is_not_read_to_its_end(fuzz: Fuzz, phase: Any) -> None:
    """Not packed either: what is read is bounded, and so is what it is unpacked to."""
    for number, change in enumerate((bomb, oversized)):
        met = fuzz.meet(10_000 + 10 * PHASES.index(phase) + number, phase, Wrong("large", change))
        assert not met.broken, str(met)


def test_no_more_is_taken_than_is_allowed() -> None:
    sent: list[int] = []

    def flood(connection: Any, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        for _ in range(OVERSIZED // 65536):
            sent.append(connection.send(b" " * 65536))

    limit = 1024 * 1024
    with (
        RawServer(flood) as server,
        requests.get(server.url, stream=True, timeout=5) as response,
        pytest.raises(ResultError, match="too large"),
    ):
        transport.read(response, limit, lambda: False)
    assert sum(sent) < OVERSIZED / 2


def test_the_same_number_is_the_same_trial(tmp_path: Path) -> None:
    met = []
    for run in "ab":
        with fuzzing(tmp_path / run, SEED) as stage:
            met.append(stage.meet(3))
    assert replace(met[0], seconds=0) == replace(met[1], seconds=0)


# That it can fail ------------------------------------------------------------------------------


def test_a_secret_in_what_is_told_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Listener.say
    monkeypatch.setattr(
        Listener, "say", lambda host, text: genuine(host, f"{text} {KEY} data:image/png")
    )
    broken = fuzz.meet(20_000, "stream", Wrong("nothing", lambda reply, _: reply)).broken
    for leak in ("the key in the node", "a data URI in the node"):
        assert any(leak in rule for rule in broken)


def test_a_picture_that_is_paid_for_and_lost_is_found(
    fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("images")

    monkeypatch.setattr("firered_edit.pipeline.fal.finishing.decode", broken)
    met = fuzz.meet(20_001, "get", Wrong("nothing", lambda reply, _: reply))
    assert "paid and lost" in met.broken
    assert met.broken[0].startswith("unnamed KeyError")


def test_a_stranger_that_is_asked_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hosts, "check_picture_url", lambda _, url: url)
    change = document(move_picture)
    met = fuzz.meet(20_002, "result", Wrong("moved", lambda reply, _: change(reply)))
    assert any("strangers were asked: ['pictures.example:443'" in rule for rule in met.broken)


# What it found ----------------------------------------------------------------------------------


def test_a_log_line_does_not_show_the_key(fuzz: Fuzz) -> None:
    met = fuzz.meet(30_000, "stream", _logging(f"Authorization: Key {KEY}"))
    assert not met.broken


@pytest.mark.parametrize("message", ["\ud800", "a \udfff b", "\\ud800"])
def test_half_a_character_in_a_log_line_can_be_shown(fuzz: Fuzz, message: str) -> None:
    met = fuzz.meet(30_001 + len(message), "stream", _logging(message))
    assert not met.broken


def _logging(message: str) -> Wrong:
    """A stream with this line before everything else."""

    def change(reply: Reply, _: Any) -> Reply:
        status = {"status": "IN_PROGRESS", "logs": [{"message": message, "timestamp": "1"}]}
        event = f"data: {json.dumps(status)}\n\n".encode()
        return replace(reply, events=iter([event, *(reply.events or ())]))

    return Wrong("log", change)


@pytest.mark.parametrize("words", ["data:" * 100_000, "data:image/png;base64," * 40_000])
def test_long_words_are_cut_before_they_are_cleaned(words: str) -> None:
    """To look for data URIs in half a megabyte took minutes, with all of Python standing still."""
    began = time.monotonic()
    status = read_status({"status": "IN_QUEUE", "logs": [{"message": words}]}, set())
    error = refused(Reply_(422, {"detail": words}), KEY)
    assert time.monotonic() - began < 1.0
    assert status
    assert len(status.logs[0]) <= 120
    assert len(str(error)) <= MAX_LENGTH
    assert "data:image" not in status.logs[0] + str(error)


def Reply_(status: int, document: Any) -> transport.Reply:  # noqa: N802
    return transport.Reply(status, {}, rendered(document))


def test_log_lines_without_end_are_not_kept() -> None:
    seen: set[tuple[str, str]] = set()
    for number in range(40):
        logs = [{"message": f"{number} {line} " + "x" * 500} for line in range(1000)]
        read_status({"status": "IN_PROGRESS", "logs": logs}, seen)
    assert len(seen) <= 11_000


def test_a_wrong_answer_is_asked_for_again(tmp_path: Path) -> None:
    """It was kept, and every later run looked for the picture where it said, for ever."""
    wrong = rewriting("result", document(move_picture))
    found = meet(Scenario("", wrong, ""), tmp_path / "data")
    assert (found.outcomes, found.submits) == ("RemoteError > picture", 1)
    assert not found.broken


def test_a_picture_gone_from_fal_is_not_ordered_anew(tmp_path: Path) -> None:
    def gone(trial: Any) -> None:
        trial.rewrite("get", lambda _: Reply(404), 99)
        trial.first_run.callback(lambda: trial.refuse("result", 404, times=99))

    found = meet(Scenario("", gone, "", unusable=True), tmp_path / "data")
    assert found.outcomes == "ResultError > ResultError > ResultError"
    assert (found.submits, found.broken) == (1, [])


@pytest.mark.parametrize("scheme", ["DATA", "Data"])
def test_a_picture_inside_the_answer_is_known_however_it_is_written(
    tmp_path: Path, scheme: str
) -> None:
    def shout(answer: dict[str, Any]) -> None:
        url = answer["images"][0]["url"]
        answer["images"][0]["url"] = scheme + url.removeprefix("data")

    def plan(trial: Any) -> None:
        trial.options["sync_mode"] = True
        trial.rewrite("result", document(shout))

    found = meet(Scenario("", plan, ""), tmp_path / "data")
    assert (found.outcomes, found.broken) == ("picture", [])


@pytest.mark.parametrize("opening", ["[", '{"token":', '[{"a":'])
def test_an_answer_of_storage_may_be_nested_without_end(opening: str) -> None:
    with pytest.raises(Failed, match="not readable"):
        read_text(opening.encode() * 10_000, "token")


def len_of(number: int) -> str:
    return f"{len(str(number))} digits"


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, 10**400, int("9" * 4000)], ids=len_of)
def test_a_number_that_no_json_holds_is_none(number: int) -> None:
    answer = read_answer(_result(seed=number))
    assert answer.seed is None
    status = read_status({"status": "IN_QUEUE", "queue_position": number}, set())
    assert status
    assert status.queue_position is None


@pytest.mark.parametrize("units", ["1e300", "1e6", "-1", "nan", "inf", "1e999"])
def test_units_that_nobody_bills_are_unknown(units: str) -> None:
    assert billed_units(transport.Reply(200, {"x-fal-billable-units": units}, b"")) is None


def test_no_more_pictures_are_fetched_than_an_edit_can_have() -> None:
    images = [{"url": f"https://v3.fal.media/{number}.png"} for number in range(1000)]
    assert len(read_answer(_result(images=images)).urls) == 4


def test_what_fal_says_of_the_prompt_is_not_kept_without_end() -> None:
    answer = read_answer(_result(prompt="p" * 10**6, timings={f"t{n}": 1 for n in range(10**4)}))
    assert len(json.dumps(answer.to_document())) < 20_000


def test_an_address_without_end_is_none() -> None:
    assert origin_of("https://v3.fal.media/" + "a" * 10_000) == ""
    with pytest.raises(RemoteError):
        FAL.check_picture_url("https://v3.fal.media/" + "a" * 10_000)


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece came before the time-out, and so the next one was waited for, without end."""
    monkeypatch.setattr(transport, "ANSWER_S", 0.3)

    def trickle(connection: Any, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    with (
        RawServer(trickle) as server,
        requests.get(server.url, stream=True, timeout=5) as response,
    ):
        began = time.monotonic()
        reply = transport.read(response, 10_000, lambda: False)
    assert not reply.whole
    assert time.monotonic() - began < 2.0


def _result(**changes: Any) -> transport.Reply:
    images = [{"url": "https://v3.fal.media/files/1.png", "width": 8, "height": 8}]
    return Reply_(200, {"images": images, **changes})


# Properties of the pure functions -----------------------------------------------------------------


@few
@given(JSON | st.sampled_from(VALUES))
@example("@deep-list@")
@example("@surrogate@")
def test_any_json_is_an_object_that_can_be_told_on_or_an_error(value: Any) -> None:
    try:
        found = read_object(rendered(value))
    except ValueError:
        return
    assert isinstance(found, dict)
    json.dumps(found, ensure_ascii=False).encode()


@few
@given(st.dictionaries(WORDS, JSON, max_size=3))
def test_an_object_is_read_as_it_is(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    if "\\ud" not in text:
        assert json.dumps(read_object(text.encode())) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_error(data: bytes) -> None:
    try:
        assert isinstance(read_object(data), dict)
    except ValueError as error:
        assert not isinstance(error, RecursionError)


@given(st.randoms(use_true_random=False))
def test_an_answer_names_pictures_or_is_an_error(rng: Any) -> None:
    image = {"url": "https://v3.fal.media/1.png", "width": 8, "height": 8}
    answer = {"images": [image, image], "has_nsfw_concepts": [False, True], "seed": 7}
    document = {**answer, "prompt": "a", "timings": {"inference": 0.5}}
    try:
        read = read_answer(transport.Reply(200, {}, rng.choice(MUTATIONS)(document, rng)))
    except (ResultError, ValueError):
        return
    assert 1 <= len(read.urls) == len(read.flagged) == len(read.sizes) <= 4
    assert read.seed is None or 0 <= read.seed <= 2**53
    assert read.units is None or 0 <= read.units < math.inf
    if not read.is_inline:
        assert Answer.from_document(json.loads(json.dumps(read.to_document()))) == read


@given(st.randoms(use_true_random=False))
def test_a_status_is_one_that_is_known_or_none(rng: Any) -> None:
    logs = [{"message": "step 1/30", "timestamp": "1"}, {"message": "step 2/30"}]
    document = {"status": "IN_PROGRESS", "queue_position": 3, "logs": logs}
    try:
        body = read_object(rng.choice(MUTATIONS)(document, rng))
    except ValueError:
        return
    status = read_status(body, set())
    if status is not None:
        assert status.state in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
        assert status.queue_position is None or 0 <= status.queue_position <= 2**53
        assert all(len(line) <= 120 for line in status.logs)


@given(st.text())
def test_a_request_id_fits_into_an_address(text: str) -> None:
    if is_request_id(text):
        assert urlsplit(f"https://queue.fal.run/requests/{text}").path == f"/requests/{text}"


@pytest.mark.parametrize("url", [url for url in HOSTILE_URLS if "v3.fal.media" not in url])
@pytest.mark.parametrize("hosts", [FAL, OWN], ids=["fal", "own"])
def test_no_hostile_address_is_believed(hosts: Hosts, url: str) -> None:
    for check in (hosts.check_picture_url, hosts.check_upload_base, hosts.check_job_url):
        if origin_of(url) != "https://fal.media" and not url.startswith("https://aaa"):
            with pytest.raises(RemoteError) as caught:
                check(url)
            assert len(str(caught.value)) <= MAX_LENGTH


@given(st.from_regex(r"[a-z]{0,8}:?/{0,3}[ -~\x80-\xff]{0,40}", fullmatch=True))
@example("https://fal.media@evil.example/")
def test_what_is_believed_leads_to_fal_however_it_is_read(url: str) -> None:
    try:
        FAL.check_picture_url(url)
    except RemoteError:
        return
    prepared = requests.Request("GET", url).prepare().url or ""
    for parsed in (urlsplit(url), urlsplit(prepared)):
        assert parsed.scheme == "https"
        assert (parsed.hostname or "").endswith(("fal.media", "fal.run", "fal.ai"))


@given(
    st.sampled_from(["fal.media", "v3.fal.media", "queue.fal.run"]), st.from_regex("[a-z.]{1,9}")
)
def test_only_fals_own_names_are_fals(name: str, other: str) -> None:
    FAL.check_picture_url(f"https://{name}/1.png")
    for stranger in (f"{name}.{other}x", f"{other}{name.replace('.', '-')}", f"x{name}@{other}"):
        with pytest.raises(RemoteError):
            FAL.check_picture_url(f"https://{stranger}/1.png")


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_events_do_not_depend_on_where_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    stream += b"\n\n"
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole, pieces = events.Events(), events.Events()
    expected = list(whole.feed(stream))
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert [event for part in parts for event in pieces.feed(part)] == expected


@given(st.lists(WORDS.filter(lambda text: "\r" not in text and "\n" not in text), min_size=1))
def test_every_event_is_given_as_it_was_sent(texts: list[str]) -> None:
    stream = b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)
    assert list(events.Events().feed(stream)) == [text.encode() for text in texts]


@given(st.text(st.characters(max_codepoint=255), max_size=60))
@example("9" * 400)
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_a_pause_is_never_endless(value: str) -> None:
    seconds = retry_after({"Retry-After": value})
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@given(st.sampled_from(sorted(REJECTED | {401, 402, 403})), st.randoms(use_true_random=False))
def test_a_refusal_is_short_and_keeps_secrets(status: int, rng: Any) -> None:
    detail = [{"loc": ["body", 3], "msg": f"no {KEY}", "type": "x", "input": "data:image/png,AA"}]
    body = rng.choice(MUTATIONS)({"detail": rng.choice((detail, f"no {KEY}"))}, rng)
    error = refused(transport.Reply(status, {}, body), KEY)
    assert len(str(error)) <= MAX_LENGTH
    assert str(error).endswith(error.remedy)
    assert not leaks_in(str(error))


def leaks_in(text: str) -> bool:
    return SECRET in text or "data:image" in text


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_a_failure_is_named_in_fals_own_word_or_not_at_all(kind: str) -> None:
    error = job_failed(transport.Reply(500, {"x-fal-error-type": kind}, b""))
    assert len(str(error)) <= MAX_LENGTH
    assert error.error_type in (kind, "unknown")


@few
@given(st.dictionaries(WORDS, JSON, max_size=2))
def test_storage_gives_texts_or_an_error(document: dict[str, Any]) -> None:
    names = list(document)[:2] or ["token"]
    try:
        found = read_text(rendered(document), *names)
    except Failed:
        return
    assert found == [document[name] for name in names]


@given(st.text(), st.text(), st.text(), st.text(max_size=40) | st.datetimes().map(str))
def test_a_token_fits_into_a_header_or_is_an_error(
    token: str, kind: str, base: str, expires_at: str
) -> None:
    answer = {"token": token, "token_type": kind, "base_url": base, "expires_at": expires_at}
    try:
        read = read_token(json.dumps(answer).encode())
    except Failed:
        return
    assert read.authorization.isascii()
    assert read.authorization.isprintable()
    assert math.isfinite(read.expires_at)


@few
@given(st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS, max_size=5))
def test_a_digest_does_not_depend_on_the_order(payload: dict[str, Any]) -> None:
    turned = dict(reversed(payload.items()))
    assert payload_digest(payload) == payload_digest(turned)
    assert payload_digest({**payload, "": "other"}) != payload_digest({**payload, "": "another"})


@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 4))
def test_the_price_grows_with_what_is_made(width: int, height: int, count: int) -> None:
    price = estimate(Size(width, height), count)
    assert 0 < price.exact <= price.rounded_up
    assert price.rounded_up < price.exact + count * PRICE_PER_MEGAPIXEL
    assert price.exact == pytest.approx(count * estimate(Size(height, width), 1).exact)


@given(st.none() | st.floats(0, 1e4))
def test_what_is_billed_is_told_or_unknown(units: float | None) -> None:
    assert (dollars(units) is None) == (cost_of(units) == "unknown") == (units is None)
    if units is not None:
        assert dollars(units) == pytest.approx(units * PRICE_PER_MEGAPIXEL, abs=1e-6)


@given(st.lists(st.tuples(st.integers(1, 4000), st.booleans()), max_size=30), st.floats(0, 3))
def test_a_run_never_reserves_more_than_it_may(
    orders: list[tuple[int, bool]], max_cost: float
) -> None:
    budget, reserved = Budget(), 0.0
    for side, given_back in orders:
        price = estimate(Size(side, side), 1)
        try:
            budget.reserve("run", price, max_cost)
        except CostError:
            assert reserved + price.rounded_up > max_cost - 1e-9
            continue
        reserved += price.rounded_up
        assert reserved <= max_cost + 1e-9
        if given_back:
            budget.release("run", price)
            reserved -= price.rounded_up


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_day_never_costs_more_than_it_may(limit: float, spent: float, price: float) -> None:
    daily = DailyLimit(limit, 0.0)
    if spent + price > limit:
        with pytest.raises(CostError) as caught:
            daily.check(spent, price)
        assert len(str(caught.value)) <= MAX_LENGTH
    else:
        daily.check(spent, price)


@given(WORDS, st.integers(0, 10))
def test_the_length_of_a_request_is_known_before_its_addresses(prompt: str, pictures: int) -> None:
    payload = {"prompt": prompt, "image_urls": [], "seed": 1}
    urls = ["https://v3.fal.media/files/1.png"] * pictures
    sent = len(json.dumps({**payload, "image_urls": urls}).encode())
    assert body_length(payload, pictures) == sent - len("".join(urls))


@few
@given(st.text(st.characters(codec="latin-1"), min_size=12, max_size=40), st.binary(max_size=60))
def test_what_came_back_is_free_of_the_key(secret: str, around: bytes) -> None:
    wire = transport.Wire(f"id:{secret}", requests.Session())
    for said in (f"id:{secret}".encode(), secret.encode()):
        assert secret.encode() not in wire.without_key(around + said + around).replace(
            b"(key)", b""
        )


def test_a_key_of_short_words_takes_nothing_from_an_answer() -> None:
    assert transport.Wire("some:other", requests.Session()).without_key(b"other") == b"other"
