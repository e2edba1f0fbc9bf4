"""The fal engine over real HTTP against the loopback fal."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from doubles.fal_server import FalServer, Fault
from doubles.fal_server.replies import Reply
from firered_edit.pipeline.errors import (
    AccountError,
    CostError,
    EditCancelled,
    FireRedError,
    FlaggedError,
    InputError,
    JobFailedError,
    MissingKeyError,
    RejectedError,
    RemoteError,
    RemoteTimeoutError,
    ResultError,
)
from firered_edit.pipeline.fal import waiting
from firered_edit.pipeline.fal.protocol import transport
from firered_edit.pipeline.geometry import Custom
from firered_edit.pipeline.images import Reference, to_tensor
from firered_edit.pipeline.request import EditRequest
from support.fal_fixtures import Listener, edit


def test_an_edit_that_changes_nothing_comes_back_bit_identical(
    server: FalServer, asked: EditRequest
) -> None:
    result = edit(asked)
    assert torch.equal(result.images[0], to_tensor(asked.references[0].pixels))
    assert (result.seed, server.billed) == (7, 1)


def test_an_edit_takes_four_requests_and_shows_the_key_to_the_api_only(
    server: FalServer, asked: EditRequest
) -> None:
    server.run_seconds = 0.3
    edit(asked)
    assert [request.phase for request in server.requests] == ["submit", "stream", "result", "get"]
    assert [request.had_key for request in server.requests] == [True, True, True, False]


def test_every_input_arrives_and_none_is_unknown(server: FalServer, asked: EditRequest) -> None:
    edit(asked, output_format="jpeg", enable_safety_checker=False, upload_quality="jpeg 95")
    (job,) = server.jobs
    assert not job.unknown_fields
    assert job.arguments["output_format"] == "jpeg"
    assert job.arguments["enable_safety_checker"] is False
    assert len(job.arguments["image_urls"]) == 2
    sent = base64.b64decode(job.arguments["image_urls"][1].partition(",")[2])
    with Image.open(io.BytesIO(sent)) as picture:
        assert picture.format == "JPEG"


def test_every_output_is_read(server: FalServer, asked: EditRequest) -> None:
    details = edit(replace(asked, num_images=2)).receipt.details
    assert details["request_id"] == server.jobs[0].request_id
    assert details["prompt_used"] == asked.prompt
    assert details["fal_timings"]["inference"] >= 0
    assert details["cost_usd"] == pytest.approx(server.billed_usd)


def test_the_cost_is_unknown_where_fal_does_not_say(server: FalServer, asked: EditRequest) -> None:
    picture = server.storage.put(_png(asked), "image/png")
    document = {"images": [{"url": server.url + picture}]}
    server.fail("result", Fault.answer(200, document))
    result = edit(asked)
    assert result.receipt.details["cost_usd"] == "unknown"
    assert result.seed == asked.seed


def _png(asked: EditRequest) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(asked.references[0].pixels).resize((128, 96)).save(buffer, "PNG")
    return buffer.getvalue()


def test_sync_mode_reads_the_picture_from_the_answer(server: FalServer, asked: EditRequest) -> None:
    result = edit(asked, sync_mode=True)
    assert torch.equal(result.images[0], to_tensor(asked.references[0].pixels))
    assert server.count("get") == 0


@pytest.mark.parametrize("rounding", ["exact", "floor16", "refit1mp32"])
def test_whatever_size_the_server_makes_of_it_the_output_is_as_asked(
    server: FalServer, asked: EditRequest, rounding: Any
) -> None:
    server.rounding = rounding
    result = edit(replace(asked, size=Custom(333, 517), num_images=2))
    assert tuple(result.images.shape) == (2, 517, 333, 3)


def test_phases_are_told(server: FalServer, asked: EditRequest) -> None:
    server.queue_seconds, server.run_seconds = 1.5, 1.0
    host = Listener()
    edit(asked, host)
    assert host.said[0].startswith("preparing 2 pictures, $0.0004 to $0.0325")
    assert any(text.startswith("queue position") for text in host.said)
    assert "step 3/3" in host.said
    assert host.said[-2] == "downloading"
    assert "@image1 120x90 · @image2 50x80" in host.said[-1]


PASSING_FAULTS = [
    ("stream", Fault.answer(405, {"detail": "Method Not Allowed"}), 1),
    ("stream", Fault.cut(1), 1),
    ("stream", Fault.reset(), 1),
    ("status", Fault.answer(503, {"detail": "try again"}), 2),
    ("result", Fault.nginx(502), 2),
    ("result", Fault.truncate(), 1),
    ("result", Fault.reset(), 1),
    ("get", Fault.answer(404, {"detail": "not yet"}), 1),
    ("get", Fault.truncate(), 1),
    ("get", Fault.throttle(0), 2),
]


@pytest.mark.parametrize(
    ("phase", "fault", "times"),
    PASSING_FAULTS,
    ids=[f"{phase}-{fault.kind}-{fault.reply.status}" for phase, fault, _ in PASSING_FAULTS],
)
@pytest.mark.usefixtures("hurried")
def test_a_passing_fault_is_not_noticed_and_nothing_is_paid_twice(
    server: FalServer, asked: EditRequest, phase: Any, fault: Fault, times: int
) -> None:
    server.run_seconds = 0.1
    if phase == "status":
        server.fail("stream", Fault.answer(405), 1)
    server.fail(phase, fault, times)
    result = edit(asked)
    assert torch.equal(result.images[0], to_tensor(asked.references[0].pixels))
    assert server.count("submit") == server.billed == 1


@pytest.mark.parametrize(
    ("fault", "submits"),
    [(Fault.nginx(502), 2), (Fault.throttle(0), 2), (Fault.lose(), 1)],
    ids=["front door", "throttled", "answer lost"],
)
@pytest.mark.usefixtures("hurried")
def test_a_submit_is_repeated_only_where_fal_has_not_accepted_it(
    server: FalServer, asked: EditRequest, fault: Fault, submits: int
) -> None:
    server.fail("submit", fault)
    assert torch.equal(edit(asked).images[0], to_tensor(asked.references[0].pixels))
    assert (server.count("submit"), server.billed) == (submits, 1)


@pytest.mark.usefixtures("hurried")
def test_nobody_listening_is_no_uncertain_submit(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_QUEUE_RUN_HOST", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match="refused the connection"):
        edit(asked)


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        ("[nsfw]", FlaggedError, "safety checker"),
        ("[policy]", RejectedError, "prompt"),
        ("[error:runner_disconnected]", JobFailedError, "machine at fal"),
    ],
)
@pytest.mark.usefixtures("hurried")
def test_what_fal_refuses_is_a_named_error(
    server: FalServer, asked: EditRequest, prompt: str, error: type[FireRedError], words: str
) -> None:
    with pytest.raises(error, match=words):
        edit(replace(asked, prompt=prompt))
    assert server.count("submit") == 1


@pytest.mark.parametrize(
    ("status", "detail", "words"),
    [
        (401, "No user found for Key ID and Secret", "does not know this key"),
        (403, "User is locked. Reason: Exhausted balance.", "Exhausted balance"),
        (422, [{"loc": ["body", "prompt"], "msg": "too long", "type": "x"}], "prompt: too long"),
        (422, "Could not load image from url: data:image/png;base64," + "A" * 9000, "rejected"),
        (500, "boom", "may have accepted"),
    ],
)
@pytest.mark.usefixtures("hurried")
def test_a_refused_submit_is_told_in_short_words(
    server: FalServer, asked: EditRequest, status: int, detail: Any, words: str
) -> None:
    server.fail("submit", Fault.answer(status, {"detail": detail}))
    with pytest.raises(RemoteError, match=words) as caught:
        edit(asked)
    assert len(str(caught.value)) <= 300
    assert server.key not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_only_the_flagged_picture_of_a_batch_is_dropped(
    server: FalServer, asked: EditRequest
) -> None:
    host = Listener()
    result = edit(replace(asked, prompt="[nsfw:1]", num_images=3), host)
    assert len(result.images) == 2
    assert "withheld picture 1" in host.said[-1]
    assert "the safety checker withheld picture 1" in result.receipt.notices


def test_a_picture_damaged_on_the_way_is_fetched_again(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("get", Fault.corrupt(), 2)
    assert torch.equal(edit(asked).images[0], to_tensor(asked.references[0].pixels))
    assert (server.count("get"), server.billed) == (3, 1)


def test_a_picture_that_stays_damaged_is_an_error(server: FalServer, asked: EditRequest) -> None:
    server.fail("get", Fault.corrupt(), 9)
    with pytest.raises(ResultError):
        edit(asked)
    assert server.count("get") == 3


def test_an_all_black_picture_is_an_error(server: FalServer, asked: EditRequest) -> None:
    server.runner = lambda inputs, pictures: [Image.new("RGB", (128, 96))]
    with pytest.raises(ResultError, match="black"):
        edit(asked)


def test_a_picture_elsewhere_is_not_fetched(server: FalServer, asked: EditRequest) -> None:
    document = {"images": [{"url": "http://169.254.169.254/latest"}]}
    server.fail("result", Fault.answer(200, document))
    with pytest.raises(RemoteError, match=r"169\.254\.169\.254"):
        edit(asked)


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/x", "http://127.0.0.1:1/x", "http://queue.fal.run/x", "https://[x"],
)
@pytest.mark.usefixtures("hurried")
def test_a_job_said_to_be_elsewhere_is_followed_where_it_was_ordered(
    server: FalServer, asked: EditRequest, url: str
) -> None:
    names = ("status_url", "response_url", "cancel_url")
    server.fail("submit", Fault.answer(200, {"request_id": "1", **dict.fromkeys(names, url)}))
    with pytest.raises(RemoteError, match="Request 1: fal"):
        edit(asked)
    assert {request.phase for request in server.requests} == {"submit", "stream", "status"}


MALFORMED = [
    {},
    {"images": 5},
    {"images": [{"url": 5}, "x", None]},
    {"images": [{"url": "https://[x"}]},
    {"images": [{"url": "data:image/png,x"}]},
    {"images": [{"url": "ftp://fal.media/x.png"}]},
]


@pytest.mark.parametrize("document", MALFORMED, ids=str)
def test_a_malformed_answer_is_a_named_error(
    server: FalServer, asked: EditRequest, document: dict[str, Any]
) -> None:
    server.fail("result", Fault.answer(200, document))
    with pytest.raises((RemoteError, ResultError)):
        edit(asked)


def test_a_flag_without_a_list_is_no_flag(server: FalServer, asked: EditRequest) -> None:
    picture = server.storage.put(_png(asked), "image/png")
    document = {"images": [{"url": server.url + picture}], "has_nsfw_concepts": True, "seed": "x"}
    server.fail("result", Fault.answer(200, document))
    assert edit(asked).seed == asked.seed


@pytest.mark.usefixtures("hurried")
def test_a_job_fal_no_longer_answers_for_ends_with_its_request_id(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("result", Fault.answer(503, {"detail": "try later"}), 999)
    with pytest.raises(RemoteTimeoutError, match="stays ordered") as caught:
        edit(asked)
    assert server.jobs[0].request_id in str(caught.value)
    assert server.count("submit") == 1


def test_an_upload_slower_than_the_connect_timeout_goes_through(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that takes a second for the whole body, and less for each part of it."""
    monkeypatch.setattr(transport, "CONNECT_S", 0.4)
    send = socket.socket.sendall

    def slowly(self: socket.socket, data: bytes, *flags: int) -> None:
        time.sleep(min(1.0, len(data) / 100_000))
        if len(data) / 100_000 > (self.gettimeout() or 99):
            raise TimeoutError("timed out")
        send(self, data, *flags)

    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    monkeypatch.setattr(socket.socket, "sendall", slowly)
    assert edit(replace(asked, references=(Reference(noise),))).images.shape[1] == 200


@pytest.mark.parametrize("phase", ["submit", "result", "get"])
def test_cancel_does_not_wait_for_a_slow_answer(
    server: FalServer, asked: EditRequest, phase: Any
) -> None:
    server.fail(phase, Fault.hang(3.0))
    pressed = time.monotonic() + 0.5
    host = Listener(lambda: time.monotonic() > pressed)
    with pytest.raises(EditCancelled):
        edit(asked, host)
    assert time.monotonic() - pressed < 1.5


def test_work_that_ends_while_it_is_looked_at_keeps_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looked at without a pause, the work ends between two looks sooner or later."""
    monkeypatch.setattr(waiting, "CANCEL_CHECK_S", 0.0)
    host = Listener()
    outcomes = [waiting.attend(lambda _: time.sleep(0.001) or "done", host) for _ in range(300)]
    assert set(outcomes) == {"done"}


def test_a_time_out_of_the_work_itself_is_handed_on() -> None:
    def work(_: Callable[[], bool]) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        waiting.attend(work, Listener())


def test_a_login_in_netrc_does_not_replace_the_key(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    edit(asked)
    assert [request.authorized for request in server.requests] == [True, True, True, False]


@pytest.mark.parametrize("key", ["two\nlines", "sch\u00f6n", "two words"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(
    server: FalServer, asked: EditRequest, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", key)
    with pytest.raises(MissingKeyError) as caught:
        edit(asked)
    assert key not in str(caught.value)
    assert not server.requests


def test_a_server_that_echoes_the_key_does_not_bring_it_on_screen(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("submit", Fault.answer(403, {"detail": f"bad key {server.key}"}))
    with pytest.raises(AccountError, match=r"bad key \(key\)"):
        edit(asked)


@pytest.mark.parametrize(
    "option",
    [{"output_format": "webp"}, {"upload_quality": "webp"}, {"max_cost": float("nan")}],
    ids=str,
)
def test_a_choice_that_no_widget_offers_is_refused(
    server: FalServer, asked: EditRequest, option: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        edit(asked, **option)
    assert not server.requests


@pytest.mark.usefixtures("hurried")
def test_a_redirect_is_not_followed(server: FalServer, asked: EditRequest) -> None:
    redirect = Fault("answer", reply=Reply(302, b"", {"Location": "http://127.0.0.1:1/"}))
    server.fail("get", redirect, 9)
    with pytest.raises(RemoteError, match="status 302"):
        edit(asked)


def test_no_key_no_request(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("FAL_KEY")
    monkeypatch.setenv("FIRERED_DATA_DIR", str(tmp_path))
    with pytest.raises(MissingKeyError):
        edit(asked)
    assert not server.requests


def test_too_dear_is_not_sent(server: FalServer, asked: EditRequest) -> None:
    with pytest.raises(CostError, match=r"max_cost \$0\.03"):
        edit(asked, max_cost=0.03)
    assert not server.requests


class _Impatient(Listener):
    """Presses Cancel as soon as it is told something that begins with ``words``."""

    def __init__(self, words: str) -> None:
        self.pressed_at: float | None = None
        self._words = words
        super().__init__(lambda: self.pressed_at is not None)

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith(self._words):
            self.pressed_at = self.pressed_at or time.monotonic()


@pytest.mark.parametrize(
    ("seconds", "words", "told"),
    [
        ({"queue_seconds": 60.0}, "queue position", "cancelled while queued: not billed"),
        ({"run_seconds": 5.0}, "step 1", "cancelled while running: fal may bill it; "),
    ],
    ids=["queued", "running"],
)
def test_cancel_reaches_fal_within_a_quarter_of_a_second(
    server: FalServer, asked: EditRequest, seconds: dict[str, float], words: str, told: str
) -> None:
    server.cancellable = True
    for name, value in seconds.items():
        setattr(server, name, value)
    host = _Impatient(words)
    with pytest.raises(EditCancelled):
        edit(replace(asked, num_inference_steps=50), host)
    assert host.pressed_at is not None
    (put,) = (request for request in server.requests if request.phase == "cancel")
    assert put.at - host.pressed_at < 0.25
    assert host.said[-1].startswith(told)


def test_an_endless_job_ends_with_its_request_id(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_QUEUE_S", 0.2)
    server.queue_seconds = 60.0
    with pytest.raises(RemoteTimeoutError) as caught:
        edit(asked)
    assert server.jobs[0].request_id in str(caught.value)


def test_more_references_than_the_model_was_trained_with_are_sent_and_noticed(
    server: FalServer, asked: EditRequest
) -> None:
    result = edit(replace(asked, references=asked.references * 2))
    assert len(server.jobs[0].arguments["image_urls"]) == 4
    assert any("was trained with 3" in notice for notice in result.receipt.notices)
    assert any("FireRed Stitch References" in notice for notice in result.receipt.notices)


@pytest.mark.usefixtures("hurried")
def test_a_state_unheard_of_is_passed_over(server: FalServer, asked: EditRequest) -> None:
    server.run_seconds = 0.1
    server.fail("stream", Fault.answer(404))
    server.fail("status", Fault.answer(200, {"status": "PAUSED"}))
    assert edit(asked).images.shape[1:3] == (90, 120)


def test_the_first_reference_is_the_main_one(server: FalServer, asked: EditRequest) -> None:
    swapped = replace(asked, references=asked.references[::-1])
    assert tuple(edit(asked).images.shape[1:3]) == (90, 120)
    assert tuple(edit(swapped).images.shape[1:3]) == (80, 50)
