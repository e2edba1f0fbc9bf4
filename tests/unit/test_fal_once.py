"""No edit is paid twice, and nothing that was paid is lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from doubles.fal_server import FalServer, Fault
from firered_edit.pipeline.errors import (
    CostError,
    EditCancelled,
    FireRedError,
    FlaggedError,
    JournalError,
    RemoteTimeoutError,
    ResultError,
    UncertainError,
    UncollectedError,
)
from firered_edit.pipeline.fal import placing, waiting
from firered_edit.pipeline.fal.backlog import Backlog
from firered_edit.pipeline.fal.collecting import collector_in
from firered_edit.pipeline.fal.journal import Entry, Journal, Shape, State, Visit, journal_in
from firered_edit.pipeline.fal.journal.results import Results
from firered_edit.pipeline.fal.protocol import history, transport
from firered_edit.pipeline.fal.protocol.answers import job_named
from firered_edit.pipeline.fal.protocol.hosts import Hosts
from firered_edit.pipeline.geometry import Size
from firered_edit.pipeline.host import RemoteSettings
from firered_edit.pipeline.images import Reference, to_tensor
from firered_edit.pipeline.request import EditRequest, EditResult
from support.comfyui import wait_until
from support.fal_fixtures import Listener, Unfinished, edit, forget

pytestmark = pytest.mark.usefixtures("hurried")


def _picture(asked: EditRequest) -> torch.Tensor:
    return to_tensor(asked.references[0].pixels)


def _reseeded(asked: EditRequest) -> EditRequest:
    return replace(asked, seed=asked.seed + 1)


def test_the_same_edit_again_comes_from_disk_without_a_request(
    server: FalServer, asked: EditRequest
) -> None:
    first = edit(asked)
    sent = len(server.requests)
    host = Listener()
    again = edit(asked, host)
    assert torch.equal(first.images, again.images)
    assert len(server.requests) == sent
    assert again.receipt.details["source"] == "disk"
    assert "not billed again" in host.said[-1]


def test_it_comes_from_disk_in_the_next_process_too(server: FalServer, asked: EditRequest) -> None:
    edit(asked)
    forget()
    edit(asked)
    assert server.billed == server.count("submit") == 1


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"seed": 8}, {}),
    ({"prompt": "a scarf"}, {}),
    ({"negative_prompt": "blur"}, {}),
    ({"num_images": 2}, {}),
    ({"num_inference_steps": 4}, {}),
    ({"guidance_scale": 5.0}, {}),
    ({"acceleration": "high"}, {}),
    ({"working_megapixels": 0.05}, {}),
    ({}, {"enable_safety_checker": False}),
    ({}, {"output_format": "jpeg"}),
    ({}, {"upload_quality": "jpeg 95"}),
]


@pytest.mark.parametrize(("changes", "options"), CHANGES, ids=str)
def test_whatever_decides_the_picture_makes_another_edit(
    server: FalServer, asked: EditRequest, changes: dict[str, Any], options: dict[str, Any]
) -> None:
    edit(asked)
    edit(replace(asked, **changes), **options)
    assert server.billed == 2


def test_another_picture_makes_another_edit(server: FalServer, asked: EditRequest) -> None:
    edit(asked)
    pixels = asked.references[1].pixels.copy()
    pixels[0, 0, 0] ^= 1
    edit(replace(asked, references=(asked.references[0], Reference(pixels))))
    assert server.billed == 2


def test_what_does_not_decide_the_picture_makes_no_other_edit(
    server: FalServer, asked: EditRequest
) -> None:
    edit(asked)
    edit(asked, sync_mode=True, max_cost=5.0)
    assert server.billed == 1


def test_many_at_once_are_one_job(server: FalServer, asked: EditRequest) -> None:
    server.run_seconds = 0.5
    with ThreadPoolExecutor(8) as pool:
        results: list[EditResult] = list(pool.map(lambda _: edit(asked), range(8)))
    assert server.billed == server.count("submit") == 1
    assert all(torch.equal(result.images[0], _picture(asked)) for result in results)


def test_an_edit_waits_while_another_node_sends_the_same(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("submit", Fault.hang(0.3))
    host = Listener()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(edit, asked)
        wait_until(lambda: server.count("submit") == 1)
        assert edit(asked, host).receipt.details["source"] in ("attached", "disk")
        first.result()
    assert host.said[0] == "the same edit is being sent by another node"
    assert (server.count("submit"), server.billed) == (1, 1)


# A submit whose answer was lost ----------------------------------------------------------------

BROKEN_OFF = "The connection broke while the edit was sent; fal may have accepted it. "
QUEUE_AGAIN = (
    "fal's request history does not show it, and may lag. Queue again: it is looked up once more, "
    "and sent anew if it is still not there."
)
NOT_READ = (
    "fal's request history cannot be read now. Queue again in a few minutes: it is sent anew only "
    "after it was looked up there."
)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the engine would have slept before it looked into the history."""
    slept: list[float] = []
    monkeypatch.setattr(placing, "time", SimpleNamespace(time=time.time, sleep=slept.append))
    return slept


def test_a_lost_answer_is_found_in_the_history(server: FalServer, asked: EditRequest) -> None:
    server.fail("submit", Fault.lose())
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)


def test_a_history_that_lags_is_asked_again_when_queued_again(
    server: FalServer, asked: EditRequest, rests: list[float]
) -> None:
    server.history_lists_running, server.run_seconds = False, 1.0
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError, match="Queue again"):
        edit(asked)
    wait_until(lambda: server.billed == 1)
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)
    assert rests == [0.0, 0.0]


def test_what_the_history_does_not_show_is_sent_again_only_after_asking(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("submit", Fault.reset())
    host = Listener()
    for _ in range(2):
        with pytest.raises(UncertainError) as caught:
            edit(asked, host)
        assert str(caught.value) == BROKEN_OFF + QUEUE_AGAIN
    assert host.said[-1] == "looking the edit up in fal's request history"
    assert server.count("submit") == 1
    assert edit(asked).receipt.details["source"] == "fal"
    assert (server.count("submit"), server.billed) == (2, 1)


def test_an_edit_whose_answer_was_just_lost_is_looked_for_until_the_history_shows_it(
    server: FalServer, asked: EditRequest, rests: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "HISTORY_PAUSES_S", (0.0, 1.0, 2.0))
    server.fail("submit", Fault.lose())
    server.fail("history", Fault.answer(200, {"items": []}))
    assert edit(asked).receipt.details["source"] == "fal"
    assert rests == [0.0, 1.0]


def test_where_there_is_no_history_nothing_is_looked_for(
    server: FalServer, asked: EditRequest, rests: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAL_REST_HOST")
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError):
        edit(asked)
    assert (rests, server.count("history")) == ([], 0)


def test_what_somebody_else_found_before_it_was_sent_anew_is_not_sent(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "look_up", lambda *_: False)
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError):
        edit(asked)
    retake = Journal.retake

    def beaten(journal: Journal, entry: Entry, visit: Visit) -> bool:
        hosts = Hosts.from_environment(server.environment)
        journal.accepted(entry.key, job_named(hosts, server.jobs[0].request_id))
        return retake(journal, entry, visit)

    monkeypatch.setattr(Journal, "retake", beaten)
    assert edit(asked).receipt.details["source"] == "attached"
    assert (server.count("submit"), server.billed) == (1, 1)


def test_a_lost_job_that_turns_up_under_another_seed_is_offered(
    server: FalServer, asked: EditRequest, rests: list[float]
) -> None:
    server.history_lists_running, server.run_seconds = False, 0.5
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError):
        edit(asked)
    wait_until(lambda: server.billed == 1)
    with pytest.raises(UncollectedError, match="seed 7 is still at fal"):
        edit(_reseeded(asked))
    assert rests == [0.0, 0.0]
    assert edit(asked).seed == 7
    assert server.billed == 1


def test_a_lost_job_of_which_nobody_was_told_turns_up_under_another_seed(
    server: FalServer, asked: EditRequest, rests: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.history_lists_running, server.run_seconds = False, 0.5
    server.fail("submit", Fault.lose())
    with monkeypatch.context() as patched:
        # As where its process has died.
        patched.setattr(Journal, "asked", lambda *_: None)
        with pytest.raises(UncertainError):
            edit(asked)
    wait_until(lambda: server.billed == 1)
    with pytest.raises(UncollectedError, match="seed 7 is still at fal"):
        edit(_reseeded(asked))
    assert rests == [0.0, 0.0]


def test_a_doubt_under_another_seed_stops_an_edit_once_though_no_history_can_be_read(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def unreadable(_journal: Journal, _client: object, entry: Entry, _stopped: object) -> bool:
        looked.append(entry.key)
        assert len(looked) <= 3, "once for each edit"
        raise RemoteTimeoutError("fal's history is not readable.", "Queue again.")

    monkeypatch.setattr(placing, "look_up", unreadable)
    server.fail("submit", Fault.reset())
    with pytest.raises(UncertainError):
        edit(asked)
    with pytest.raises(UncollectedError, match="seed 7 may have been accepted by fal"):
        edit(_reseeded(asked))
    assert edit(_reseeded(asked)).seed == 8
    assert (server.count("submit"), server.billed) == (2, 1)


def test_what_could_not_be_looked_up_is_not_sent_again(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FIND_PATIENCE_S", 0.1)
    server.fail("submit", Fault.lose())
    server.fail("history", Fault.answer(503), 999)
    for _ in range(3):
        with pytest.raises(UncertainError) as caught:
            edit(asked)
        assert str(caught.value) == BROKEN_OFF + NOT_READ
    assert (server.count("submit"), server.billed) == (1, 1)


def test_a_lost_answer_is_found_among_large_requests(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_JSON_BYTES", 100_000)
    for seed in range(3):
        edit(replace(asked, seed=seed))
    assert sum(len(str(job.arguments)) for job in server.jobs) > 100_000
    server.fail("submit", Fault.lose())
    edit(asked)
    assert (server.count("submit"), server.billed) == (4, 4)


def test_lost_jobs_that_differ_in_their_pictures_are_not_mixed_up(
    server: FalServer, asked: EditRequest
) -> None:
    other = replace(asked, references=asked.references[::-1])
    server.fail("submit", Fault.lose(), 2)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(edit, [asked, other]))
    for result, wanted in zip(results, [asked, other], strict=True):
        assert torch.equal(result.images[0], _picture(wanted))
    assert server.billed == 2


# What was never delivered ----------------------------------------------------------------------


def test_a_paid_picture_that_never_arrived_is_offered_before_a_new_one_is_bought(
    server: FalServer, asked: EditRequest
) -> None:
    host = Unfinished()
    edit(asked, host)
    host.tell(False)
    with pytest.raises(UncollectedError, match="finished and paid.*Set seed 7 to collect it"):
        edit(_reseeded(asked))
    assert server.billed == 1
    edit(_reseeded(asked))
    assert server.billed == 2


def test_once_delivered_it_is_not_offered(server: FalServer, asked: EditRequest) -> None:
    host = Unfinished()
    edit(asked, host)
    host.tell(True)
    edit(_reseeded(asked))
    assert server.billed == 2


def test_variants_of_one_run_do_not_stop_each_other(server: FalServer, asked: EditRequest) -> None:
    server.run_seconds = 0.3
    host = Unfinished()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: edit(replace(asked, seed=seed), host), range(4)))
    edit(replace(asked, seed=99), host)
    assert server.billed == 5


def test_a_run_that_gave_up_waiting_is_attached_to(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run_seconds = 1.0
    with monkeypatch.context() as patched:
        patched.setattr(waiting, "MAX_RUN_S", 0.2)
        with pytest.raises(RemoteTimeoutError, match="stays ordered"):
            edit(asked)
    result = edit(asked)
    assert result.receipt.details["source"] == "attached"
    assert (server.count("submit"), server.billed) == (1, 1)


def test_what_an_earlier_process_left_is_followed_to_its_end(
    server: FalServer, asked: EditRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run_seconds = 0.5
    _abandon(asked, monkeypatch)
    assert collector_in(data).follow_all() == 1
    backlog = Backlog(data)
    wait_until(lambda: [job.ready for job in backlog.waiting()] == [True])
    (job,) = backlog.waiting()
    assert (job.seed, job.prompt) == (7, asked.prompt)
    (picture,) = backlog.pictures(job.key)
    assert torch.equal(picture, _picture(asked))
    backlog.collected(job.key)
    assert not backlog.waiting()
    assert (server.count("submit"), server.billed) == (1, 1)


def _abandon(asked: EditRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order ``asked`` and end the process, as far as the journal can tell."""
    with monkeypatch.context() as patched:
        patched.setattr(waiting, "MAX_RUN_S", 0.0)
        patched.setattr(waiting, "MAX_QUEUE_S", 0.0)
        with pytest.raises(RemoteTimeoutError):
            edit(asked)
    forget()


def _entry(seed: int, state: State) -> Entry:
    square = Size(8, 8)
    return Entry(
        key=f"key {seed}",
        family="family",
        state=state,
        owner="owner",
        seed=seed,
        prompt="a hat",
        account="account",
        price=0.0325,
        shape=Shape(square, (8.0, 8.0), square),
        changed_at=0.0,
        sent_at=None,
        payload_digest=None,
        uploads=[],
        job=None,
        answer=None,
        files=[],
        problem=None,
        asked_run=None,
        delivered_at=None,
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("uncertain", "may have been accepted by fal: its answer was lost"),
        ("queued", "is still at fal"),
        ("cancelling", "was cancelled but may finish and be billed"),
        ("result", "is finished and paid, and was never delivered"),
        ("done", "is finished and paid, and was never delivered"),
    ],
)
@pytest.mark.parametrize(("count", "others"), [(1, ""), (2, " (and 1 more)"), (3, " (and 2 more)")])
def test_what_waits_is_told_in_words(state: State, words: str, count: int, others: str) -> None:
    error = placing.uncollected([_entry(seed, state) for seed in range(7, 7 + count)])
    assert str(error) == (
        f"This edit with seed 7 {words}{others}. Set seed 7 to collect it, or use Settings > "
        "FireRed > fal; or queue again to pay for a new one."
    )


# Cancel ----------------------------------------------------------------------------------------


def _cancel_when_running(server: FalServer, asked: EditRequest) -> Listener:
    host = Listener(lambda: bool(server.jobs) and server.jobs[-1].state == "IN_PROGRESS")
    with pytest.raises(EditCancelled):
        edit(asked, host)
    return host


def test_a_cancelled_job_that_finishes_all_the_same_is_kept(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    server.run_seconds = 1.0
    _cancel_when_running(server, asked)
    backlog = Backlog(data)
    wait_until(lambda: [job.ready for job in backlog.waiting()] == [True])
    sent = len(server.requests)
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert len(server.requests) == sent
    assert server.billed == 1


def test_a_job_accepted_after_cancel_is_cancelled(server: FalServer, asked: EditRequest) -> None:
    server.queue_seconds = 60.0
    server.fail("submit", Fault.hang(0.5))
    host = Listener(lambda: server.count("submit") > 0)
    with pytest.raises(EditCancelled):
        edit(asked, host)
    assert host.said[-2:] == [
        "sending",
        "cancelled while it was sent; fal is told as soon as it answers",
    ]
    wait_until(lambda: server.count("cancel") == 1)
    assert server.billed == 0


@pytest.mark.parametrize("when", ["queued", "running"])
def test_after_a_cancel_that_fal_obeyed_the_edit_is_ordered_anew(
    server: FalServer, asked: EditRequest, when: str
) -> None:
    server.cancellable = True
    server.queue_seconds, server.run_seconds = (60.0, 0.0) if when == "queued" else (0.0, 5.0)
    pressed = time.monotonic() + 0.4
    with pytest.raises(EditCancelled):
        edit(asked, Listener(lambda: time.monotonic() > pressed))
    server.queue_seconds = server.run_seconds = 0.0
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (2, 1)


def test_cancel_leaves_the_job_to_another_node_that_waits_for_it(
    server: FalServer, asked: EditRequest
) -> None:
    server.run_seconds, server.cancellable = 1.5, True
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(edit, asked)
        wait_until(lambda: server.count("submit") == 1)
        pressed = time.monotonic() + 0.3
        host = Listener(lambda: time.monotonic() > pressed)
        with pytest.raises(EditCancelled):
            edit(asked, host)
        assert "another node still waits" in host.said[-1]
        assert torch.equal(other.result().images[0], _picture(asked))
    assert (server.count("cancel"), server.billed) == (0, 1)


def test_cancel_while_downloading_keeps_the_picture(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    server.fail("get", Fault.hang(0.8))
    host = Listener(lambda: server.count("get") > 0)
    with pytest.raises(EditCancelled):
        edit(asked, host)
    wait_until(lambda: [job.ready for job in Backlog(data).waiting()] == [True])
    assert (server.count("cancel"), server.billed) == (0, 1)


# What is on disk -------------------------------------------------------------------------------


def _files(data: Path) -> list[Path]:
    return sorted((data / "results").glob("*/*"))


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_picture_lost_from_disk_is_fetched_again_and_not_paid_again(
    server: FalServer, asked: EditRequest, data: Path, damage: str
) -> None:
    edit(asked)
    (file,) = _files(data)
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.count("get"), server.billed) == (1, 2, 1)


def test_a_private_picture_is_kept_on_disk_and_not_in_the_journal(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    edit(asked, sync_mode=True)
    assert torch.equal(edit(asked, sync_mode=True).images[0], _picture(asked))
    assert (server.count("submit"), server.count("get")) == (1, 0)
    written = b"".join(file.read_bytes() for file in data.glob("journal.db*"))
    assert b"base64" not in written


def test_neither_key_nor_reference_is_in_the_data_folder(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    edit(asked)
    written = b"".join(file.read_bytes() for file in data.rglob("*") if file.is_file())
    assert server.key.encode() not in written
    assert server.key.partition(":")[2].encode() not in written
    assert b"data:image" not in written


def test_a_full_disk_does_not_keep_a_paid_picture_from_the_artist(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise JournalError("The result cannot be kept: No space left.", "Make room.")

    with monkeypatch.context() as patched:
        patched.setattr(Results, "store", full)
        assert torch.equal(edit(asked).images[0], _picture(asked))
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)


def test_an_accepted_edit_goes_on_where_the_journal_cannot_note_it(
    server: FalServer,
    asked: EditRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any) -> None:
        raise JournalError("The journal of paid edits cannot be used: disk full.", "Make room.")

    for note in ("accepted", "doubt"):
        monkeypatch.setattr(Journal, note, full)
    assert torch.equal(edit(asked).images[0], _picture(asked))
    (told,) = [record for record in caplog.records if record.name == placing.__name__]
    request_id = server.jobs[0].request_id
    assert told.getMessage() == f"fal accepted request {request_id}, which could not be noted"
    assert told.levelname == "WARNING"


def test_why_fal_refused_an_edit_is_written_down(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    server.fail("submit", Fault.answer(422, {"detail": "no"}))
    with pytest.raises(FireRedError) as caught:
        edit(asked)
    (entry,) = journal_in(data).entries(("failed",))
    assert entry.problem == str(caught.value)


def test_without_a_journal_nothing_is_sent(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    data.mkdir()
    (data / "journal.db").write_bytes(b"something else entirely" * 99)
    with pytest.raises(JournalError):
        edit(asked)
    assert not server.requests


def test_flagged_pictures_are_an_error_again_and_not_ordered_again(
    server: FalServer, asked: EditRequest
) -> None:
    for _ in range(2):
        with pytest.raises(FlaggedError):
            edit(replace(asked, prompt="[nsfw]"))
    assert server.count("submit") == 1


def test_an_answer_without_pictures_is_asked_for_again(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("result", Fault.answer(200, {}))
    with pytest.raises(ResultError):
        edit(asked)
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert server.billed == 1


def test_a_job_that_stays_without_pictures_is_never_ordered_again(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("result", Fault.answer(200, {}), 3)
    for _ in range(3):
        with pytest.raises(ResultError, match="change the seed to pay for another"):
            edit(asked)
    assert server.count("submit") == 1
    edit(_reseeded(asked))
    assert server.count("submit") == 2


# Pictures, money, places -----------------------------------------------------------------------


@pytest.fixture
def large(asked: EditRequest) -> EditRequest:
    """An edit whose pictures do not fit into a request."""
    noise = np.random.default_rng(3).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    return replace(asked, references=(Reference(noise), Reference(noise[::-1].copy())))


def test_the_same_picture_is_uploaded_once(server: FalServer, large: EditRequest) -> None:
    first = edit(large)
    second = edit(_reseeded(large))
    assert server.count("upload") == first.receipt.details["pictures_uploaded"] == 2
    assert second.receipt.details["bytes_uploaded"] == 0
    assert all(url.startswith(server.url) for url in server.jobs[1].arguments["image_urls"])


def test_an_upload_that_fal_cannot_read_is_made_again(
    server: FalServer, large: EditRequest
) -> None:
    edit(large)
    server.storage.files.clear()
    with pytest.raises(FireRedError, match="rejected"):
        edit(_reseeded(large))
    edit(_reseeded(large))
    assert server.count("upload") == 4


def test_an_edit_that_is_served_or_attached_costs_the_run_nothing(
    server: FalServer, asked: EditRequest
) -> None:
    edit(asked)
    edit(asked, max_cost=0.0)
    with pytest.raises(CostError):
        edit(_reseeded(asked), max_cost=0.0)


def test_what_fal_refused_does_not_count_against_max_cost(
    server: FalServer, asked: EditRequest
) -> None:
    host = Listener()
    server.fail("submit", Fault.answer(422, {"detail": "no"}))
    with pytest.raises(FireRedError, match="rejected"):
        edit(asked, host, max_cost=0.04)
    edit(asked, host, max_cost=0.04)
    with pytest.raises(CostError):
        edit(_reseeded(asked), host, max_cost=0.04)


def test_the_daily_limit_is_checked_before_anything_is_sent(
    server: FalServer, asked: EditRequest
) -> None:
    host = Listener()
    host.chosen = RemoteSettings(daily_limit=0.04)
    edit(asked, host)
    server.requests.clear()
    for seed in range(2):
        with pytest.raises(CostError, match="daily limit"):
            edit(replace(asked, prompt="dear", num_images=2, seed=seed), host)
    assert not server.requests


def test_no_more_than_the_window_are_at_fal_at_once(server: FalServer, asked: EditRequest) -> None:
    server.run_seconds = 0.2
    host = Listener()
    host.chosen = RemoteSettings(window=3)
    highest = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.01):
            open_jobs = [job for job in server.jobs if job.state != "COMPLETED"]
            highest = max(highest, len(open_jobs))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda seed: edit(replace(asked, seed=seed), host), range(9)))
    over.set()
    watcher.join()
    assert (highest, server.billed) == (3, 9)


def test_another_key_is_told_whose_job_it_is(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run_seconds = 1.0
    _abandon(asked, monkeypatch)
    _change_key(server, monkeypatch)
    host = Listener()
    # Every node of that run is stopped, the next run goes on.
    for _ in range(2):
        with pytest.raises(UncollectedError) as caught:
            edit(asked, host)
        assert str(caught.value) == (
            f"This edit was ordered with another fal key (request {server.jobs[0].request_id}). "
            "Use that key to collect it, or queue again to go on with this one."
        )
    edit(asked)
    assert (server.count("submit"), server.billed) == (1, 1)


def test_what_is_on_disk_is_for_every_key(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(asked)
    _change_key(server, monkeypatch)
    assert edit(asked).receipt.details["source"] == "disk"


def _change_key(server: FalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "5a1e0000-0000-4000-8000-00000000fa15:another-secret"
    monkeypatch.setenv("FAL_KEY", server.key)


def test_the_journal_of_a_data_folder_is_opened_once(server: FalServer, data: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        journals = set(pool.map(lambda _: journal_in(data), range(16)))
    assert len(journals) == 1


def test_a_job_that_fal_shows_late_is_not_ordered_again(
    server: FalServer, asked: EditRequest
) -> None:
    for phase in ("stream", "status"):
        server.fail(phase, Fault.answer(404), 4)  # type: ignore[arg-type]
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)


@pytest.mark.parametrize(("units", "spent"), [("3", 0.0975), (None, 0.0325)])
def test_what_fal_bills_for_a_refusal_counts_as_spent(
    server: FalServer, asked: EditRequest, data: Path, units: str | None, spent: float
) -> None:
    headers = {"X-Fal-Billable-Units": units} if units else None
    server.fail("result", Fault.answer(422, {"detail": "no"}, headers))
    with pytest.raises(FireRedError, match="rejected"):
        edit(asked)
    assert Backlog(data).spent_today() == pytest.approx(spent)
