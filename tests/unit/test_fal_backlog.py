"""Edits that are given up, and the room that kept pictures take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from doubles.fal_server import FalServer, Fault
from firered_edit.pipeline.errors import JournalError, RemoteTimeoutError, UncertainError
from firered_edit.pipeline.fal import waiting
from firered_edit.pipeline.fal.backlog import Backlog
from firered_edit.pipeline.fal.collecting import collector_in
from firered_edit.pipeline.fal.journal import Journal, clear, journal_in, room_of
from firered_edit.pipeline.fal.journal.room import Share
from firered_edit.pipeline.request import EditRequest
from support.comfyui import wait_until
from support.fal_fixtures import Unfinished, edit
from support.kinds import MakePhoto
from support.orphans import Orphan, leave_finished

pytestmark = pytest.mark.usefixtures("hurried")


def _leave_running(
    server: FalServer, asked: EditRequest, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """``asked`` is at fal for so long, and its node has stopped to wait for it."""
    server.run_seconds = seconds
    with monkeypatch.context() as patched:
        patched.setattr(waiting, "MAX_RUN_S", 0.1)
        with pytest.raises(RemoteTimeoutError):
            edit(asked)


def _states(data: Path) -> list[str]:
    return [job.state for job in Backlog(data).waiting()]


# Given up --------------------------------------------------------------------------------------


def test_what_is_given_up_while_fal_is_at_it_is_never_listed_again(
    server: FalServer, asked: EditRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_running(server, asked, monkeypatch, 0.8)
    backlog = Backlog(data)
    (job,) = backlog.waiting()
    backlog.give_up(job.key)
    assert _states(data) == []
    # It is followed to its end all the same, since somebody was at it already.
    wait_until(lambda: len(journal_in(data).entries(("done",))) == 1)
    assert _states(data) == []
    assert collector_in(data).follow_all() == 0
    assert backlog.spent_today() == pytest.approx(server.billed_usd)


def test_what_was_given_up_is_not_paid_again(
    server: FalServer, asked: EditRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_running(server, asked, monkeypatch, 0.8)
    backlog = Backlog(data)
    backlog.give_up(backlog.waiting()[0].key)
    assert edit(asked).receipt.details["source"] == "attached"
    assert (server.count("submit"), server.billed) == (1, 1)


def test_whoever_runs_it_again_waits_for_it_again(
    server: FalServer, asked: EditRequest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_running(server, asked, monkeypatch, 0.8)
    backlog = Backlog(data)
    backlog.give_up(backlog.waiting()[0].key)
    host = Unfinished()
    edit(asked, host)
    host.tell(False)
    assert _states(data) == ["done"]


def test_what_was_given_up_does_not_stop_another_seed(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    host = Unfinished()
    edit(asked, host)
    host.tell(False)
    backlog = Backlog(data)
    backlog.give_up(backlog.waiting()[0].key)
    edit(replace(asked, seed=8))
    assert server.billed == 2


def test_an_edit_in_doubt_is_counted_after_it_was_given_up_and_looked_up_when_run_again(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    server.history_lists_running, server.run_seconds = False, 0.5
    server.fail("submit", Fault.lose())
    with pytest.raises(UncertainError):
        edit(asked)
    backlog = Backlog(data)
    spent = backlog.spent_today()
    backlog.give_up(backlog.waiting()[0].key)
    assert (_states(data), backlog.spent_today()) == ([], spent)
    assert spent > 0
    wait_until(lambda: server.billed == 1)
    edit(asked)
    assert (server.count("submit"), server.billed) == (1, 1)


# Room ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, photo: MakePhoto) -> Iterator[Journal]:
    """A journal with two pictures that were delivered and three that wait."""
    for seed, count in ((1, 2), (2, 3)):
        leave_finished(tmp_path, Orphan("kept", seed), [photo(20 + seed, 20)] * count)
    journal = Journal(tmp_path)
    journal.delivered(Orphan("kept", 1).key)
    yield journal
    journal.close()


def _bytes(journal: Journal, seed: int) -> int:
    entry = journal.find(Orphan("kept", seed).key)
    assert entry is not None
    return sum(len(journal.results.load(name) or b"") for name in entry.files)


def test_room_is_what_lies_on_disk(kept: Journal, tmp_path: Path) -> None:
    kept.uploads.remember_upload("digest", "storage", "https://v3.fal.media/1.png", 2e9 * 2)
    kept.uploads.remember_upload("old", "storage", "https://v3.fal.media/2.png", 1.0)
    room = room_of(kept)
    assert room.delivered == Share(2, _bytes(kept, 1))
    assert room.waiting == Share(3, _bytes(kept, 2))
    assert room.records.count == 1
    written = sum(file.stat().st_size for file in tmp_path.glob("journal.db*"))
    assert room.records.bytes == written > 0


def test_clearing_takes_what_was_delivered_and_leaves_what_waits_and_the_bills(
    kept: Journal,
) -> None:
    spent, known, waits = kept.spent(0.0), kept.request_ids(), _bytes(kept, 2)
    clear(kept)
    room = room_of(kept)
    assert (room.delivered, room.waiting) == (Share(0, 0), Share(3, waits))
    assert kept.find(Orphan("kept", 1).key) is None
    assert (kept.spent(0.0), kept.request_ids()) == (spent, known)
    clear(kept)
    assert room_of(kept).waiting == Share(3, waits)


def test_what_a_node_is_at_is_not_cleared(
    server: FalServer, asked: EditRequest, data: Path
) -> None:
    host = Unfinished()
    edit(asked, host)
    journal = journal_in(data)
    (entry,) = journal.entries(("done",))
    journal.delivered(entry.key)
    clear(journal)
    assert room_of(journal).delivered.count == 1
    host.tell(True)
    clear(journal)
    assert room_of(journal).delivered.count == 0


def test_an_edit_without_pictures_is_not_forgotten(kept: Journal) -> None:
    with kept.database.writing() as db:
        db.execute("UPDATE jobs SET files = '[]' WHERE key = ?", (Orphan("kept", 1).key,))
    clear(kept)
    assert kept.find(Orphan("kept", 1).key) is not None


def test_a_file_that_resists_is_an_error_in_words(
    kept: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(JournalError) as caught:
        clear(kept)
    assert str(caught.value) == (
        "A kept picture cannot be deleted: Permission denied. "
        "Close what has it open and clear again."
    )
    monkeypatch.undo()
