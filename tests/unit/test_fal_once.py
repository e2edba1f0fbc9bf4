"""No edit is paid twice, and nothing that was paid is lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
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
from firered_edit.pipeline.fal import waiting
from firered_edit.pipeline.fal.backlog import Backlog
from firered_edit.pipeline.fal.collecting import collector_in
from firered_edit.pipeline.fal.journal import journal_in
from firered_edit.pipeline.fal.journal.results import Results
from firered_edit.pipeline.fal.protocol import history, transport
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


# A submit whose answer was lost ----------------------------------------------------------------


def test_a_lost_answer_is_found_in_the_history(server: FalServer, asked: EditRequest) -> None:
    server.fail("submit", Fault.lose())
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)


def test_a_history_that_lags_is_asked_again_when_queued_again(
    server: FalServer, asked: EditRequest
) -> None:
    server.history_lists_running, server.run_seconds = False, 1.0
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError, match="Queue again"):
        edit(asked)
    wait_until(lambda: server.billed == 1)
    assert torch.equal(edit(asked).images[0], _picture(asked))
    assert (server.count("submit"), server.billed) == (1, 1)


def test_what_the_history_does_not_show_is_sent_again_only_after_asking(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("submit", Fault.reset())
    host = Listener()
    for _ in range(2):
        with pytest.raises(UncertainError):
            edit(asked, host)
    assert server.count("submit") == 1
    edit(asked)
    assert (server.count("submit"), server.billed) == (2, 1)


def test_a_lost_job_that_turns_up_under_another_seed_is_offered(
    server: FalServer, asked: EditRequest
) -> None:
    server.history_lists_running, server.run_seconds = False, 0.5
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError):
        edit(asked)
    wait_until(lambda: server.billed == 1)
    with pytest.raises(UncollectedError, match="seed 7"):
        edit(_reseeded(asked))
    assert edit(asked).seed == 7
    assert server.billed == 1


def test_what_could_not_be_looked_up_is_not_sent_again(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "FIND_PATIENCE_S", 0.1)
    server.fail("submit", Fault.lose())
    server.fail("history", Fault.answer(503), 999)
    for _ in range(3):
        with pytest.raises(UncertainError, match="cannot be read now"):
            edit(asked)
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
    server.key = "5a1e0000-0000-4000-8000-00000000fa15:another-secret"
    monkeypatch.setenv("FAL_KEY", server.key)
    with pytest.raises(UncollectedError, match="another fal key"):
        edit(asked)
    edit(asked)
    assert (server.count("submit"), server.billed) == (1, 1)


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
