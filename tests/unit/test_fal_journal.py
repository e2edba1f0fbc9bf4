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
from firered_edit.pipeline.fal.journal import Journal, Order, Shape, Visit, new_visit, tidy
from firered_edit.pipeline.fal.pricing import DailyLimit
from firered_edit.pipeline.fal.protocol.answers import Answer, Job
from firered_edit.pipeline.geometry import Size

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
    assert other.claim(RESEEDED, new_visit("run 3")).turn == "send"


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
    found = journal.find(ORDER.key)
    assert found is not None
    assert found.state == state
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
    assert journal.claim(RESEEDED, new_visit("run 2")).turn == "send"
    assert journal.claim(ORDER, new_visit("run 2")).turn == "send"


def test_news_of_an_older_order_does_not_end_a_newer_one(journal: Journal) -> None:
    _accept(journal)
    journal.ended(ORDER.key, JOB.request_id, "cancelled", "cancelled")
    _accept(journal, job=replace(JOB, request_id="r-2"))
    journal.ended(ORDER.key, JOB.request_id, "cancelled", "cancelled")
    found = journal.find(ORDER.key)
    assert found is not None
    assert (found.state, found.request_id) == ("queued", "r-2")


def test_an_entry_comes_back_as_it_was_written(journal: Journal, tmp_path: Path) -> None:
    _reach(journal, "done")
    again = Journal(tmp_path)
    found = again.find(ORDER.key)
    again.close()
    assert found is not None
    assert (found.job, found.answer, found.shape) == (JOB, ANSWER, SHAPE)
    assert (found.prompt, found.seed, found.payload_digest) == ("a hat", 7, "digest")


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
def test_everything_is_its_users_alone(journal: Journal, tmp_path: Path) -> None:
    _accept(journal)
    journal.results.store(ORDER.key, 1, b"\x89PNG picture")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name.partition(".")[2] for file in files} >= {"db", "png"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_a_picture_is_on_disk_under_its_own_kind(journal: Journal) -> None:
    name = journal.results.store(ORDER.key, 2, b"\xff\xd8\xff picture")
    assert name.endswith(f"{ORDER.key}-2.jpg")
    assert journal.results.load(name) == b"\xff\xd8\xff picture"
    journal.results.remove([name])
    assert journal.results.load(name) is None


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


def test_what_a_living_node_is_at_is_never_forgotten(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _reach(journal, "queued")
    _let_pass(31, monkeypatch)
    tidy(journal)
    assert journal.find(ORDER.key) is not None


def test_pictures_take_no_more_room_than_allowed(journal: Journal) -> None:
    orders = [replace(ORDER, key=letter * 64, family=letter) for letter in "abcd"]
    for order in orders:
        visit = _accept(journal, order, replace(JOB, request_id=order.family))
        journal.answered(order.key, ANSWER, None)
        journal.stored(order.key, [journal.results.store(order.key, 1, b"\x89PNG" + bytes(96))])
        journal.leave(visit)
    for order in orders[1:3]:
        journal.delivered(order.key)
    tidy(journal, max_bytes=200)
    # Delivered ones went first: what is left was never seen.
    assert [bool(journal.find(order.key)) for order in orders] == [True, False, False, True]
    assert len(list(journal.results.sizes())) == 2


def test_files_that_no_job_names_are_removed_once_they_are_old(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.results.store("ee", 1, b"\x89PNG of a job that was struck out")
    tidy(journal)
    assert len(list(journal.results.sizes())) == 1
    _let_pass(2, monkeypatch)
    tidy(journal)
    assert not list(journal.results.sizes())


def test_a_damaged_journal_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match=r"damaged.*Rename journal\.db"):
        Journal(tmp_path)


def test_a_journal_of_a_newer_version_is_not_touched(journal: Journal, tmp_path: Path) -> None:
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="newer version"):
        Journal(tmp_path)


def test_a_write_that_fails_changes_nothing(journal: Journal) -> None:
    with pytest.raises(ValueError, match="on the way"), journal.database.writing() as db:
        db.execute("INSERT INTO visits VALUES ('t', 'k', 'o')")
        raise ValueError("on the way")
    with journal.database.reading() as db:
        assert db.execute("SELECT count(*) FROM visits").fetchone()[0] == 0
