"""What may be sent, by whom, and what became of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..pricing import DailyLimit
from ..protocol.answers import Answer, Job
from . import rows
from .claims import Claims
from .entries import ACCEPTED, Entry, State, Visit
from .folders import PerFolder
from .results import Results
from .uploads import Uploads


class Journal(Claims):
    """The journal in ``folder``. Every method may be called from any thread or process.

    Methods that change a job name the state it must be in; whoever comes second changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.results = Results(folder / "results")
        self.uploads = Uploads(self.database)

    def withdraw(self, key: str) -> None:
        """Nothing was sent after all."""
        self._underway.discard(key)
        with self.database.writing() as db:
            entry = rows.find(db, key)
            if entry is not None and entry.owner == self.owners.me:
                rows.unprepare(db, key)

    def submitting(
        self, key: str, digest: str, uploads: Sequence[str], limit: DailyLimit | None
    ) -> None:
        """From now on fal may have it. ``CostError`` where the day's limit forbids it."""
        with self.database.writing() as db:
            if limit is not None:
                limit.check(rows.spent(db, limit.since), rows.price(db, key))
            rows.move(
                db,
                key,
                ("preparing",),
                "submitting",
                payload_digest=digest,
                uploads=json.dumps(list(uploads)),
                sent_at=time.time(),
            )

    def accepted(self, key: str, job: Job) -> None:
        """fal has it: from here on it has a name."""
        with self.database.writing() as db:
            addresses = json.dumps([job.status_url, job.response_url, job.cancel_url])
            moved = rows.move(
                db,
                key,
                ("submitting", "uncertain"),
                "queued",
                request_id=job.request_id,
                addresses=addresses,
                asked_run=None,
            )
            if moved:
                db.execute(
                    "INSERT OR IGNORE INTO bills (request_id, at, estimate) "
                    "SELECT request_id, sent_at, price FROM jobs WHERE key = ?",
                    (key,),
                )

    def doubt(self, key: str) -> None:
        """Its submit is over; where nothing else was written of it, its answer was lost."""
        self._underway.discard(key)
        self._change(key, ("submitting",), "uncertain")

    def retake(self, entry: Entry, visit: Visit) -> bool:
        """Send an uncertain edit anew; whether ``visit`` may be the one to do it.

        Not where somebody else has sent it since ``entry`` was read, whatever came of that.
        """
        with self.database.writing() as db:
            now = rows.find(db, entry.key)
            if now is None or (now.state, now.changed_at) != ("uncertain", entry.changed_at):
                return False
            fresh = {"owner": self.owners.me, "asked_run": None, "delivered_at": None}
            rows.move(db, entry.key, ("uncertain",), "preparing", **fresh)
            self._underway.add(entry.key)
            self._join(db, entry.key, visit, "send")
            return True

    def cancelling(self, key: str) -> None:
        """The artist no longer wants it; it may complete and be paid all the same."""
        self._change(key, ("queued",), "cancelling")

    def answered(self, key: str, answer: Answer, cost: float | None) -> None:
        """fal completed it, for ``cost`` US dollars where it says so."""
        document = json.dumps(answer.to_document())
        with self.database.writing() as db:
            # In "result" too: what was noted before may have led to no picture.
            if rows.move(db, key, ("queued", "cancelling", "result"), "result", answer=document):
                rows.bill(db, key, answer.units, cost)

    def stored(self, key: str, files: Sequence[str], *, delivered: bool = False) -> None:
        """Its pictures are on disk; ``delivered`` where there is nothing to deliver."""
        values: dict[str, Any] = {"files": json.dumps(list(files))}
        if delivered:
            values["delivered_at"] = time.time()
        self._change(key, ("result",), "done", **values)

    def ended(
        self,
        key: str,
        request_id: str | None,
        state: State,
        problem: str,
        cost: float | None = 0.0,
    ) -> None:
        """It came to its end without pictures; None is a ``cost`` that fal has not told."""
        with self.database.writing() as db:
            entry = rows.find(db, key)
            # An order sent meanwhile under the same key is another job.
            if entry is None or entry.request_id != request_id:
                return
            if rows.move(db, key, ("submitting", *ACCEPTED), state, problem=problem):
                rows.bill(db, key, None, cost)

    def lost(self, key: str) -> None:
        """Its pictures are gone from the disk; they may still be at fal."""
        self._change(key, ("done",), "result", files="[]", delivered_at=None)

    def asked(self, key: str, run_id: str) -> None:
        """The artist was told of this job in the run ``run_id``."""
        with self.database.writing() as db:
            rows.ask(db, [key], run_id)

    def delivered(self, key: str) -> None:
        """The artist has its pictures, or has given it up: nobody waits for it any more."""
        with self.database.writing() as db:
            db.execute("UPDATE jobs SET delivered_at = ? WHERE key = ?", (time.time(), key))

    def forget(self, entry: Entry) -> bool:
        """Strike out a job that is as ``entry`` says and that nobody is at; whether it was."""
        with self.database.writing() as db:
            if self._attended(db, entry.key):
                return False
            cursor = db.execute(
                "DELETE FROM jobs WHERE key = ? AND state = ? AND changed_at = ?",
                (entry.key, entry.state, entry.changed_at),
            )
            return cursor.rowcount > 0

    def _change(self, key: str, origins: tuple[State, ...], to: State, **values: Any) -> bool:
        with self.database.writing() as db:
            return rows.move(db, key, origins, to, **values)

    def find(self, key: str) -> Entry | None:
        """The job of that key."""
        with self.database.reading() as db:
            return rows.find(db, key)

    def entries(self, states: Iterable[State]) -> list[Entry]:
        """All jobs in one of ``states``, the latest first; what died on the way is settled."""
        wanted = tuple(states)
        with self.database.writing() as db:
            for entry in rows.in_states(db, ("preparing", "submitting")):
                self._settled(db, entry)
            return rows.in_states(db, wanted)

    def unattended(self, states: Iterable[State]) -> list[Entry]:
        """Jobs in one of ``states`` that are not delivered and that no edit node waits for."""
        found = [entry for entry in self.entries(states) if entry.delivered_at is None]
        with self.database.reading() as db:
            return [entry for entry in found if not self._attended(db, entry.key)]

    def request_ids(self) -> set[str]:
        """Every request id it knows: what fal's history shows besides is nobody's."""
        with self.database.reading() as db:
            return {row["request_id"] for row in db.execute("SELECT request_id FROM bills")}

    def spent(self, since: float) -> float:
        """US dollars since that time; what fal has not billed yet counts as estimated."""
        with self.database.reading() as db:
            return rows.spent(db, since)


journal_in = PerFolder(Journal)
"""The journal of a folder, opened once in this process."""
