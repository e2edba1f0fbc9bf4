"""Who may do what about an edit: the decision that no two processes may take at once."""

from __future__ import annotations

import secrets
import sqlite3
import time
from pathlib import Path

from . import rows
from .database import Database
from .entries import ACCEPTED, COLLECTABLE, ENDED, Claim, Entry, Order, Turn, Visit
from .owners import Owners


class Claims:
    """The journal in ``folder``, as far as taking and leaving a job goes."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "journal.db")
        self.owners = Owners(folder / "owners")
        self._underway: set[str] = set()
        """What this process is preparing or submitting now."""

    def close(self) -> None:
        """Leave the journal, as the end of the process does."""
        self.owners.close()
        self.database.close()

    def claim(self, order: Order, visit: Visit) -> Claim:
        """Decide, before all other processes, what ``visit`` may do about ``order``."""
        with self.database.writing() as db:
            entry = self._settled(db, rows.find(db, order.key))
            turn = self._turn(entry)
            if turn != "send":
                self._join(db, order.key, visit, turn)
                return Claim(turn, entry)
            relatives = self._relatives(db, order)
            waiting = [found for found in relatives if found.is_unasked(visit.run_id)]
            if waiting:
                rows.ask(db, [found.key for found in waiting], visit.run_id)
                return Claim("ask", uncollected=tuple(waiting))
            self._begin(db, order, visit)
            doubtful = tuple(found for found in relatives if found.state == "uncertain")
            return Claim("send", doubtful=doubtful)

    def _turn(self, entry: Entry | None) -> Turn:
        if entry is None or entry.state in ENDED:
            return "send"
        if entry.state in ACCEPTED:
            return "attach"
        if entry.state == "done":
            return "serve"
        return "resolve" if entry.state == "uncertain" else "wait"

    def _settled(self, db: sqlite3.Connection, entry: Entry | None) -> Entry | None:
        """``entry``, where whoever was at it has died, as what it now is."""
        if entry is None or entry.state not in ("preparing", "submitting"):
            return entry
        if self._is_underway(entry):
            return entry
        if entry.state == "preparing":
            rows.unprepare(db, entry.key)
        rows.move(db, entry.key, ("submitting",), "uncertain")
        return rows.find(db, entry.key)

    def _is_underway(self, entry: Entry) -> bool:
        if entry.owner == self.owners.me:
            return entry.key in self._underway
        return self.owners.alive(entry.owner)

    def _relatives(self, db: sqlite3.Connection, order: Order) -> list[Entry]:
        """Jobs of the same family that nobody works at and somebody still waits for."""
        found = db.execute(
            "SELECT * FROM jobs WHERE family = ? AND key <> ? AND delivered_at IS NULL",
            (order.family, order.key),
        ).fetchall()
        settled = [self._settled(db, Entry.of(row)) for row in found]
        return [
            entry
            for entry in settled
            if entry and entry.state in COLLECTABLE and not self._attended(db, entry.key)
        ]

    def _attended(self, db: sqlite3.Connection, key: str, besides: str = "") -> bool:
        """Whether an edit node of a living process is at this job, ``besides`` one visit's."""
        found = db.execute(
            "SELECT DISTINCT owner FROM visits WHERE key = ? AND token <> ?", (key, besides)
        ).fetchall()
        return any(self.owners.alive(row["owner"]) for row in found)

    def _begin(self, db: sqlite3.Connection, order: Order, visit: Visit) -> None:
        db.execute("DELETE FROM jobs WHERE key = ?", (order.key,))
        values = {
            "key": order.key,
            "family": order.family,
            "state": "preparing",
            "owner": self.owners.me,
            "seed": order.seed,
            "prompt": order.prompt,
            "account": order.account,
            "price": order.price,
            "shape": order.shape.to_json(),
            "changed_at": time.time(),
        }
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        db.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", values)
        self._underway.add(order.key)
        self._join(db, order.key, visit, "send")

    def _join(self, db: sqlite3.Connection, key: str, visit: Visit, turn: Turn) -> None:
        if turn in ("send", "attach", "serve"):
            values = (visit.token, key, self.owners.me)
            db.execute("INSERT OR REPLACE INTO visits VALUES (?, ?, ?)", values)
        if turn == "attach":
            # Whoever had given it up wants it again.
            db.execute("UPDATE jobs SET delivered_at = NULL WHERE key = ?", (key,))

    def leave(self, visit: Visit) -> None:
        """The edit node is gone: what it left behind is for whoever comes next."""
        with self.database.writing() as db:
            db.execute("DELETE FROM visits WHERE token = ?", (visit.token,))

    def is_shared(self, key: str, visit: Visit) -> bool:
        """Whether another living edit node waits for the same job."""
        with self.database.reading() as db:
            return self._attended(db, key, besides=visit.token)


def new_visit(run_id: str) -> Visit:
    """A stay of its own in the run ``run_id``."""
    return Visit(secrets.token_hex(8), run_id)
