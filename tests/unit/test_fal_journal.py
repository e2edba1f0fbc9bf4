"""The journal: who may send, what survives, what is forgotten."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firered_edit.pipeline.errors import CostError, JournalError
from firered_edit.pipeline.fal.journal import (
    Entry,
    Journal,
    Order,
    PerFolder,
    Shape,
    Visit,
    database,
    new_visit,
    results,
    rows,
    tidy,
)
from firered_edit.pipeline.fal.journal.owners import Owners
from firered_edit.pipeline.fal.journal.tidying import MAX_AGE_S, MAX_BILL_AGE_S, STRAY_AGE_S
from firered_edit.pipeline.fal.pricing import DailyLimit
from firered_edit.pipeline.fal.protocol.answers import Answer, Job
from firered_edit.pipeline.geometry import Plan, Size

JOB = Job("r-1", "http://q/r-1/status", "http://q/r-1", "http://q/r-1/cancel")
ANSWER = Answer(["http://q/1.png"], [False], 7, "a hat", units=2.0, sizes=[(64, 48)])
SHAPE = Shape(Size(64, 48), (60.5, 45.25), Size(121, 90))
ORDER = Order("k" * 64, "f" * 64, 7, "a hat", "account", 0.065, SHAPE)
RESEEDED = replace(ORDER, key="l" * 64, seed=8)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def other(journal: Journal, tmp_path: Path) -> Iterator[Journal]:
    """The same journal as another process has it."""
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def _submit(journal: Journal, order: Order = ORDER, visit: Visit | None = None) -> Visit:
    visit = visit or new_visit("run")
    assert journal.claim(order, visit).turn == "send"
    journal.submitting(order.key, "digest", [], None)
    return visit


def _accept(journal: Journal, order: Order = ORDER, job: Job = JOB) -> Visit:
    visit = _submit(journal, order)
    journal.accepted(order.key, job)
    journal.doubt(order.key)
    return visit


def _die(journal: Journal) -> None:
    """What the end of a process leaves: its lock is free, its rows stay."""
    journal.owners.close()


def _found(journal: Journal, order: Order = ORDER) -> Entry:
    found = journal.find(order.key)
    assert found is not None
    return found


def test_only_the_first_of_many_may_send(journal: Journal, other: Journal) -> None:
    turns: list[str] = []

    def claim(mine: Journal) -> None:
        turns.append(mine.claim(ORDER, new_visit("run")).turn)

    threads = [threading.Thread(target=claim, args=(mine,)) for mine in [journal, other] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == ["send"] + ["wait"] * 15


@pytest.mark.parametrize("steps", range(6))
def test_whoever_comes_next_gets_what_the_state_allows(
    journal: Journal, other: Journal, steps: int
) -> None:
    visit = new_visit("run")
    life = [
        ("wait", lambda: journal.claim(ORDER, visit)),
        ("wait", lambda: journal.submitting(ORDER.key, "digest", [], None)),
        ("attach", lambda: journal.accepted(ORDER.key, JOB)),
        ("attach", lambda: journal.cancelling(ORDER.key)),
        ("attach", lambda: journal.answered(ORDER.key, ANSWER, 0.065)),
        ("serve", lambda: journal.stored(ORDER.key, ["kk/1.png"])),
    ]
    for _, step in life[: steps + 1]:
        step()
    assert other.claim(ORDER, new_visit("run 2")).turn == life[steps][0]


def test_a_process_that_died_before_sending_leaves_nothing(
    journal: Journal, other: Journal
) -> None:
    journal.claim(ORDER, new_visit("run"))
    _die(journal)
    assert other.claim(ORDER, new_visit("run 2")).turn == "send"


def test_a_process_that_died_while_sending_leaves_a_doubt(journal: Journal, other: Journal) -> None:
    _submit(journal)
    _die(journal)
    claim = other.claim(ORDER, new_visit("run 2"))
    assert (claim.turn, claim.entry and claim.entry.state) == ("resolve", "uncertain")


def test_an_error_nobody_foresaw_leaves_a_doubt_in_the_same_process(journal: Journal) -> None:
    _submit(journal)
    journal.doubt(ORDER.key)
    assert journal.claim(ORDER, new_visit("run 2")).turn == "resolve"


def test_what_is_withdrawn_leaves_nothing(journal: Journal) -> None:
    journal.claim(ORDER, new_visit("run"))
    journal.withdraw(ORDER.key)
    assert journal.find(ORDER.key) is None
    journal.withdraw(ORDER.key)


def test_nobody_withdraws_what_another_process_prepares(journal: Journal, other: Journal) -> None:
    journal.claim(ORDER, new_visit("run"))
    other.withdraw(ORDER.key)
    assert other.claim(ORDER, new_visit("run 2")).turn == "wait"


def _fail(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_where_a_withdrawal_cannot_be_written_the_same_process_may_still_send(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.claim(ORDER, new_visit("run"))
    with monkeypatch.context() as patched:
        patched.setattr(rows, "unprepare", _fail)
        with pytest.raises(JournalError):
            journal.withdraw(ORDER.key)
    assert journal.claim(ORDER, new_visit("run 2")).turn == "send"


def test_where_a_doubt_cannot_be_written_it_is_one_all_the_same(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _submit(journal)
    with monkeypatch.context() as patched:
        patched.setattr(rows, "move", _fail)
        with pytest.raises(JournalError):
            journal.doubt(ORDER.key)
    assert journal.claim(ORDER, new_visit("run 2")).turn == "resolve"


def test_what_turned_up_may_be_asked_about_anew(journal: Journal) -> None:
    journal.leave(_reach(journal, "uncertain"))
    journal.asked(ORDER.key, "run")
    assert _found(journal).asked_run == "run"
    journal.accepted(ORDER.key, JOB)
    assert _found(journal).asked_run is None
    assert journal.claim(RESEEDED, new_visit("run 2")).turn == "ask"


def test_whoever_sends_an_uncertain_edit_anew_is_at_it(journal: Journal, other: Journal) -> None:
    journal.leave(_submit(journal))
    journal.doubt(ORDER.key)
    journal.asked(ORDER.key, "run")
    journal.delivered(ORDER.key)
    visit = new_visit("run 2")
    assert other.retake(_found(journal), visit)
    taken = _found(journal)
    assert (taken.state, taken.owner) == ("preparing", other.owners.me)
    assert (taken.asked_run, taken.delivered_at) == (None, None)
    assert other.claim(ORDER, new_visit("run 3")).turn == "wait"
    assert journal.is_shared(ORDER.key, new_visit("run 3"))
    assert not journal.is_shared(ORDER.key, visit)


def test_only_one_may_send_an_uncertain_edit_again(journal: Journal, other: Journal) -> None:
    _submit(journal)
    journal.doubt(ORDER.key)
    assert (doubted := journal.find(ORDER.key))
    assert journal.retake(doubted, new_visit("run 2"))
    assert not other.retake(doubted, new_visit("run 3"))
    assert other.claim(ORDER, new_visit("run 3")).turn == "wait"
    journal.submitting(ORDER.key, "digest", [], None)
    journal.doubt(ORDER.key)
    assert not other.retake(doubted, new_visit("run 3"))


@pytest.mark.parametrize("end", ["withdrawn", "died"])
def test_an_uncertain_edit_that_is_not_sent_anew_after_all_stays_uncertain(
    journal: Journal, other: Journal, end: str
) -> None:
    _submit(journal)
    journal.doubt(ORDER.key)
    assert (doubted := journal.find(ORDER.key))
    assert journal.retake(doubted, new_visit("run 2"))
    journal.withdraw(ORDER.key) if end == "withdrawn" else _die(journal)
    claim = other.claim(ORDER, new_visit("run 3"))
    assert (claim.turn, claim.entry and claim.entry.sent_at) == ("resolve", doubted.sent_at)


@pytest.mark.parametrize("state", ["uncertain", "queued", "cancelling", "result", "done"])
def test_what_differs_in_the_seed_alone_stops_a_submit_once(
    journal: Journal, other: Journal, state: str
) -> None:
    _reach(journal, state)
    _die(journal)
    first = other.claim(RESEEDED, new_visit("run 2"))
    assert (first.turn, [entry.seed for entry in first.uncollected]) == ("ask", [7])
    # Every node of that run is stopped, the next run goes on.
    assert other.claim(RESEEDED, new_visit("run 2")).turn == "ask"
    last = other.claim(RESEEDED, new_visit("run 3"))
    assert (last.turn, last.uncollected) == ("send", ())
    # It may have turned up meanwhile.
    assert [entry.seed for entry in last.doubtful] == ([7] if state == "uncertain" else [])


def test_what_died_on_the_way_under_another_seed_stops_a_submit(
    journal: Journal, other: Journal
) -> None:
    _submit(journal)
    _die(journal)
    claim = other.claim(RESEEDED, new_visit("run 2"))
    assert (claim.turn, [entry.state for entry in claim.uncollected]) == ("ask", ["uncertain"])


def _reach(journal: Journal, state: str) -> Visit:
    visit = _submit(journal)
    if state != "uncertain":
        journal.accepted(ORDER.key, JOB)
    journal.doubt(ORDER.key)
    if state == "cancelling":
        journal.cancelling(ORDER.key)
    if state in ("result", "done"):
        journal.answered(ORDER.key, ANSWER, 0.065)
    if state == "done":
        journal.stored(ORDER.key, [])
    assert _found(journal).state == state
    return visit


@pytest.mark.parametrize("state", ["queued", "done"])
def test_what_a_living_node_is_at_stops_nobody(
    journal: Journal, other: Journal, state: str
) -> None:
    _reach(journal, state)
    assert other.claim(RESEEDED, new_visit("run")).turn == "send"


def test_what_was_delivered_stops_nobody(journal: Journal) -> None:
    visit = _reach(journal, "done")
    journal.delivered(ORDER.key)
    journal.leave(visit)
    assert journal.claim(RESEEDED, new_visit("run 2")).turn == "send"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_came_to_nothing_may_be_ordered_again(journal: Journal, state: str) -> None:
    journal.leave(_accept(journal))
    journal.ended(ORDER.key, JOB.request_id, state, "it failed")  # type: ignore[arg-type]
    assert (_found(journal).state, _found(journal).problem) == (state, "it failed")
    assert journal.claim(RESEEDED, new_visit("run 2")).turn == "send"
    assert journal.claim(ORDER, new_visit("run 2")).turn == "send"


def test_what_fal_refused_may_be_ordered_again_and_costs_nothing(journal: Journal) -> None:
    _submit(journal)
    journal.ended(ORDER.key, None, "failed", "fal rejected it")
    assert (_found(journal).state, journal.spent(0.0)) == ("failed", 0.0)


def test_news_that_come_too_late_change_nothing(journal: Journal) -> None:
    _reach(journal, "done")
    before, spent = _found(journal), journal.spent(0.0)
    journal.ended(ORDER.key, JOB.request_id, "cancelled", "too late")
    journal.answered(ORDER.key, replace(ANSWER, units=0.0), 0.0)
    journal.cancelling(ORDER.key)
    journal.accepted(ORDER.key, replace(JOB, request_id="r-2"))
    journal.doubt(ORDER.key)
    assert (_found(journal), journal.spent(0.0)) == (before, spent)


def test_the_latest_answer_counts(journal: Journal) -> None:
    _reach(journal, "result")
    latest = replace(ANSWER, urls=["http://q/2.png"], units=3.0)
    journal.answered(ORDER.key, latest, 0.0975)
    assert _found(journal).answer == latest
    with journal.database.reading() as db:
        bills = [tuple(row) for row in db.execute("SELECT request_id, units, cost FROM bills")]
    assert bills == [(JOB.request_id, 3.0, 0.0975)]


def test_news_of_an_older_order_does_not_end_a_newer_one(journal: Journal) -> None:
    _accept(journal)
    journal.ended(ORDER.key, JOB.request_id, "cancelled", "cancelled")
    _accept(journal, job=replace(JOB, request_id="r-2"))
    journal.ended(ORDER.key, JOB.request_id, "cancelled", "cancelled")
    found = _found(journal)
    assert (found.state, found.request_id) == ("queued", "r-2")


def test_an_entry_comes_back_as_it_was_written(journal: Journal, tmp_path: Path) -> None:
    _reach(journal, "done")
    again = Journal(tmp_path)
    found = again.find(ORDER.key)
    again.close()
    assert found is not None
    assert (found.job, found.answer, found.shape) == (JOB, ANSWER, SHAPE)
    assert (found.key, found.family, found.seed) == (ORDER.key, ORDER.family, ORDER.seed)
    assert (found.prompt, found.account, found.price) == (ORDER.prompt, ORDER.account, ORDER.price)
    assert (found.owner, found.payload_digest) == (journal.owners.me, "digest")


def test_moments_and_places_come_back_as_they_were_written(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    journal.claim(ORDER, new_visit("run"))
    assert (_found(journal).changed_at, _found(journal).sent_at) == (1e9, None)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    journal.submitting(ORDER.key, "digest", ["http://storage/1.png"], None)
    found = _found(journal)
    assert (found.changed_at, found.sent_at) == (2e9, 2e9)
    assert found.uploads == ["http://storage/1.png"]
    journal.accepted(ORDER.key, JOB)
    journal.answered(ORDER.key, ANSWER, None)
    journal.stored(ORDER.key, ["kk/1.png"], delivered=True)
    found = _found(journal)
    assert (found.state, found.files, found.delivered_at) == ("done", ["kk/1.png"], 2e9)


def test_a_shape_is_the_way_back() -> None:
    plan = Plan(SHAPE.canvas, SHAPE.frame, SHAPE.output, fits=(), locked=False)
    assert SHAPE.plan() == plan
    assert Shape.of(plan) == SHAPE


def test_a_picture_that_is_gone_from_disk_may_be_fetched_again(journal: Journal) -> None:
    _reach(journal, "result")
    journal.lost(ORDER.key)
    journal.stored(ORDER.key, ["kk/1.png"])
    journal.delivered(ORDER.key)
    journal.lost(ORDER.key)
    found = _found(journal)
    assert (found.state, found.files, found.delivered_at) == ("result", [], None)
    assert journal.claim(ORDER, new_visit("run 2")).turn == "attach"


def test_what_changed_meanwhile_is_not_forgotten(journal: Journal) -> None:
    journal.leave(_accept(journal))
    before = _found(journal)
    journal.cancelling(ORDER.key)
    assert not journal.forget(before)
    assert journal.forget(_found(journal))
    assert journal.find(ORDER.key) is None


def test_whoever_is_served_is_at_it(journal: Journal, other: Journal) -> None:
    journal.leave(_reach(journal, "done"))
    visit = new_visit("run 2")
    assert other.claim(ORDER, visit).turn == "serve"
    assert not journal.forget(_found(journal))
    other.leave(visit)
    assert journal.forget(_found(journal))


def test_a_list_of_jobs_knows_who_has_died_on_the_way(journal: Journal, other: Journal) -> None:
    journal.claim(ORDER, new_visit("run"))
    _submit(journal, RESEEDED)
    assert other.entries(("preparing", "submitting")) != []
    _die(journal)
    assert other.entries(("preparing", "submitting")) == []
    assert [entry.seed for entry in other.entries(("uncertain",))] == [RESEEDED.seed]
    assert other.find(ORDER.key) is None


def test_a_list_of_jobs_begins_with_the_latest(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment, order in enumerate((ORDER, RESEEDED)):
        monkeypatch.setattr(time, "time", lambda moment=moment: float(moment))
        _submit(journal, order)
        journal.doubt(order.key)
    assert [entry.seed for entry in journal.entries(("uncertain",))] == [8, 7]


def test_a_job_is_unattended_once_its_node_has_left(journal: Journal) -> None:
    visit = _accept(journal)
    _accept(journal, RESEEDED, replace(JOB, request_id="r-2"))
    journal.leave(visit)
    assert [entry.seed for entry in journal.unattended(("queued",))] == [ORDER.seed]
    journal.delivered(ORDER.key)
    assert journal.unattended(("queued",)) == []


def test_spending_counts_bills_where_known_and_estimates_elsewhere(journal: Journal) -> None:
    _accept(journal)
    assert journal.spent(0.0) == pytest.approx(0.065)
    journal.answered(ORDER.key, ANSWER, 0.0325)
    assert journal.spent(0.0) == pytest.approx(0.0325)
    _submit(journal, RESEEDED, new_visit("run"))
    assert journal.spent(0.0) == pytest.approx(0.0975)


def test_a_job_that_failed_costs_nothing(journal: Journal) -> None:
    _accept(journal)
    journal.ended(ORDER.key, JOB.request_id, "failed", "the machine at fal failed")
    assert journal.spent(0.0) == 0.0


def test_the_daily_limit_holds_over_all_processes(journal: Journal, other: Journal) -> None:
    limit = DailyLimit(0.10, since=0.0)
    journal.claim(ORDER, new_visit("run"))
    journal.submitting(ORDER.key, "digest", [], limit)
    other.claim(RESEEDED, new_visit("run"))
    with pytest.raises(CostError, match=r"daily limit of \$0\.10"):
        other.submitting(RESEEDED.key, "digest", [], limit)


def test_a_job_that_is_not_there_costs_nothing(journal: Journal) -> None:
    journal.submitting(ORDER.key, "digest", [], DailyLimit(0.01, since=0.0))
    assert journal.find(ORDER.key) is None


def test_a_bill_is_dated_when_its_edit_was_sent(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 1e9)
        _submit(journal)
    assert (journal.spent(1e9), journal.spent(1e9 + 1)) == (pytest.approx(ORDER.price), 0.0)
    journal.accepted(ORDER.key, JOB)
    assert (journal.spent(1e9), journal.spent(1e9 + 1)) == (pytest.approx(ORDER.price), 0.0)
    assert journal.request_ids() == {JOB.request_id}


def test_only_another_living_node_keeps_a_job_from_being_cancelled(
    journal: Journal, other: Journal
) -> None:
    visit = _accept(journal)
    assert not journal.is_shared(ORDER.key, visit)
    other.claim(ORDER, new_visit("run 2"))
    assert journal.is_shared(ORDER.key, visit)
    _die(other)
    assert not journal.is_shared(ORDER.key, visit)


def test_uploads_are_remembered_until_they_expire_or_fail(journal: Journal) -> None:
    uploads = journal.uploads
    uploads.remember_upload("d", "storage", "https://fal.media/1", expires_at=4e9)
    uploads.remember_upload("e", "storage", "https://fal.media/2", expires_at=1.0)
    assert uploads.uploaded("d", "storage") == "https://fal.media/1"
    assert uploads.uploaded("d", "elsewhere") is None
    assert uploads.uploaded("e", "storage") is None
    uploads.forget_uploads(["https://fal.media/1"])
    assert uploads.uploaded("d", "storage") is None


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights in another way")
def test_everything_is_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet" / "data"
    journal = Journal(folder)
    _accept(journal)
    journal.results.store(ORDER.key, 1, b"\x89PNG picture")
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.name.partition(".")[2] for file in files} >= {"db", "png"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700, file.parent.name
    journal.close()


def test_a_picture_is_on_disk_under_its_own_kind(journal: Journal) -> None:
    name = journal.results.store(ORDER.key, 2, b"\xff\xd8\xff picture")
    assert name.endswith(f"{ORDER.key}-2.jpg")
    assert journal.results.load(name) == b"\xff\xd8\xff picture"
    journal.results.remove([name])
    assert journal.results.load(name) is None
    journal.results.remove([name])


@pytest.mark.parametrize(
    ("data", "suffix"),
    [(b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"RIFF", ".webp"), (b"GIF", ".bin")],
)
def test_a_picture_has_the_name_of_its_kind(journal: Journal, data: bytes, suffix: str) -> None:
    name = journal.results.store(ORDER.key, 1, data)
    assert name == f"kk/{ORDER.key}-1{suffix}"


def test_a_picture_that_does_not_fit_on_the_disk_is_an_error_in_words(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_durably", fill)
    with pytest.raises(JournalError) as caught:
        journal.results.store(ORDER.key, 1, b"\x89PNG")
    assert str(caught.value) == (
        "The result cannot be kept: No space left on device. "
        "Make room on the disk and run again: it is paid for and stays at fal."
    )


def test_files_that_vanish_while_they_are_counted_are_passed_over(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = journal.results.store(ORDER.key, 1, b"\x89PNG")
    gone, size = tmp_path / "gone", journal.database.size()
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *asked: [gone, *glob(*asked)])
    assert [(found, count) for found, count, _ in journal.results.sizes()] == [(name, 4)]
    assert journal.database.size() == size


def _let_pass(days: float, monkeypatch: pytest.MonkeyPatch) -> None:
    then = time.time() + days * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: then)


@pytest.mark.parametrize("state", ["uncertain", "queued", "done"])
def test_what_is_a_month_old_is_forgotten(
    journal: Journal, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.leave(_reach(journal, state))
    tidy(journal)
    assert journal.find(ORDER.key) is not None
    _let_pass(31, monkeypatch)
    tidy(journal)
    assert journal.find(ORDER.key) is None


@pytest.mark.parametrize(("max_bytes", "kept"), [(4, True), (0, False)])
def test_what_is_a_month_old_to_the_second_counts_as_kept(
    journal: Journal, max_bytes: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = _reach(journal, "result")
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 1e9)
        journal.stored(ORDER.key, [journal.results.store(ORDER.key, 1, b"\x89PNG")])
    journal.leave(visit)
    monkeypatch.setattr(time, "time", lambda: 1e9 + MAX_AGE_S)
    tidy(journal, max_bytes)
    assert (journal.find(ORDER.key) is not None) is kept


def test_what_a_living_node_is_at_is_never_forgotten(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reach(journal, "queued")
    _let_pass(31, monkeypatch)
    tidy(journal)
    assert journal.find(ORDER.key) is not None


ORDERS = [replace(ORDER, key=letter * 64, family=letter) for letter in "abcd"]
SIZE = 100
"""Bytes of each of their pictures."""


@pytest.fixture
def finished(journal: Journal) -> Journal:
    """The journal with ``ORDERS``, each with a picture on disk; two were delivered."""
    for order in ORDERS:
        visit = _accept(journal, order, replace(JOB, request_id=order.family))
        journal.answered(order.key, ANSWER, None)
        picture = b"\x89PNG".ljust(SIZE, b"\0")
        journal.stored(order.key, [journal.results.store(order.key, 1, picture)])
        journal.leave(visit)
    for order in ORDERS[1:3]:
        journal.delivered(order.key)
    return journal


@pytest.mark.parametrize(
    ("max_bytes", "kept"),
    [
        (4 * SIZE, "abcd"),
        (4 * SIZE - 1, "acd"),
        # Delivered ones go first: what is left was never seen.
        (2 * SIZE, "ad"),
        (2 * SIZE - 1, "d"),
    ],
)
def test_pictures_take_no_more_room_than_allowed(
    finished: Journal, max_bytes: int, kept: str
) -> None:
    tidy(finished, max_bytes)
    assert "".join(order.family for order in ORDERS if finished.find(order.key)) == kept
    assert len(list(finished.results.sizes())) == len(kept)


def test_a_picture_that_is_not_on_disk_frees_no_room(finished: Journal) -> None:
    finished.results.remove(_found(finished, ORDERS[1]).files)
    tidy(finished, max_bytes=3 * SIZE - 1)
    assert [bool(finished.find(order.key)) for order in ORDERS] == [True, False, False, True]


def test_files_that_no_job_names_are_removed_once_they_are_old(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = journal.results.store("ee", 1, b"\x89PNG of a job that was struck out")
    os.utime(tmp_path / "results" / name, (1e9, 1e9))
    monkeypatch.setattr(time, "time", lambda: 1e9 + STRAY_AGE_S)
    tidy(journal)
    assert len(list(journal.results.sizes())) == 1
    monkeypatch.setattr(time, "time", lambda: 1e9 + STRAY_AGE_S + 1)
    tidy(journal)
    assert not list(journal.results.sizes())


def test_bills_and_uploads_that_are_over_are_dropped(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 1e9)
        _accept(journal)
    journal.uploads.remember_upload("d", "storage", "https://fal.media/1", expires_at=1e9)
    for moment, bills, uploads in [(1e9, 1, 1), (1e9 + 1, 1, 0), (1e9 + MAX_BILL_AGE_S + 1, 0, 0)]:
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        tidy(journal)
        assert len(journal.request_ids()) == bills
        with journal.database.reading() as db:
            assert len(db.execute("SELECT * FROM uploads").fetchall()) == uploads


def test_visits_of_the_dead_are_dropped(journal: Journal, other: Journal) -> None:
    _accept(journal)
    _accept(other, RESEEDED, replace(JOB, request_id="r-2"))
    _die(other)
    tidy(journal)
    with journal.database.reading() as db:
        keys = [row["key"] for row in db.execute("SELECT key FROM visits")]
    assert keys == [ORDER.key]


def test_a_process_that_was_killed_is_known_to_be_dead(journal: Journal, other: Journal) -> None:
    killed = other.owners.me
    assert journal.owners.alive(killed)
    # The system frees the lock and leaves the file.
    other.owners._mine.release()
    assert not journal.owners.alive(killed)
    assert not journal.owners.alive(killed)


def test_a_damaged_journal_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path)
    assert str(caught.value) == (
        "The journal of paid edits is damaged: file is not a database. Rename journal.db in "
        f"{tmp_path.name}, and look at fal.ai/dashboard for edits that it knew."
    )


def test_a_journal_that_cannot_be_used_is_an_error_in_words(
    journal: Journal, tmp_path: Path
) -> None:
    with journal.database.writing() as db:
        db.execute("DROP TABLE jobs")
    with pytest.raises(JournalError) as caught:
        journal.find(ORDER.key)
    assert str(caught.value) == (
        "The journal of paid edits cannot be used: no such table: jobs. "
        f"Make room, or make {tmp_path.name} writable, and run again."
    )


def _deny(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_journal_that_cannot_be_opened_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_make_private", _deny)
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path)
    assert str(caught.value) == (
        "The journal of paid edits cannot be opened: Permission denied. "
        f"Make the folder {tmp_path.name} writable and run again."
    )


def test_a_folder_of_owners_that_cannot_be_made_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", _deny)
    with pytest.raises(JournalError) as caught:
        Owners(tmp_path / "owners")
    assert str(caught.value) == (
        "The folder owners of the journal cannot be used: Permission denied. "
        "Make it writable and run again."
    )


def test_a_journal_of_a_newer_version_is_not_touched(journal: Journal, tmp_path: Path) -> None:
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path)
    assert str(caught.value) == (
        "The journal of paid edits was written by a newer version of FireRed Edit. "
        "Update this pack."
    )


def test_each_folder_has_one_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(folder: Path) -> int:
        made.append(folder)
        return len(made)

    kept = PerFolder(make)
    monkeypatch.chdir(tmp_path)
    assert [kept(tmp_path / "a"), kept(tmp_path / "b"), kept(Path("a"))] == [1, 2, 1]
    assert made == [tmp_path / "a", tmp_path / "b"]
    assert (kept.forget(), kept.forget()) == ([1, 2], [])
    assert kept(tmp_path / "a") == 3


def test_a_write_that_fails_changes_nothing(journal: Journal) -> None:
    with pytest.raises(ValueError, match="on the way"), journal.database.writing() as db:
        db.execute("INSERT INTO visits VALUES ('t', 'k', 'o')")
        raise ValueError("on the way")
    with journal.database.reading() as db:
        assert db.execute("SELECT count(*) FROM visits").fetchone()[0] == 0
