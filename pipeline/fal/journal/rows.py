"""Reading and changing single rows, inside somebody else's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from .entries import Entry, State


def find(db: sqlite3.Connection, key: str) -> Entry | None:
    """The job of that key."""
    row = db.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()
    return Entry.of(row) if row else None


def in_states(db: sqlite3.Connection, states: Sequence[State]) -> list[Entry]:
    """Every job in one of ``states``, the latest first."""
    places = ", ".join("?" * len(states))
    statement = f"SELECT * FROM jobs WHERE state IN ({places}) ORDER BY changed_at DESC"
    return [Entry.of(row) for row in db.execute(statement, tuple(states)).fetchall()]


def move(
    db: sqlite3.Connection, key: str, origins: tuple[State, ...], to: State, **values: Any
) -> bool:
    """Bring a job that is in one of ``origins`` to another state; whether it was there."""
    changes = {"state": to, "changed_at": time.time(), **values}
    assignments = ", ".join(f"{name} = ?" for name in changes)
    places = ", ".join("?" * len(origins))
    cursor = db.execute(
        f"UPDATE jobs SET {assignments} WHERE key = ? AND state IN ({places})",
        (*changes.values(), key, *origins),
    )
    return cursor.rowcount > 0


def unprepare(db: sqlite3.Connection, key: str) -> None:
    """Nothing was sent now; an edit that had been sent before is as uncertain as it was then."""
    db.execute("DELETE FROM jobs WHERE key = ? AND state = 'preparing' AND sent_at IS NULL", (key,))
    move(db, key, ("preparing",), "uncertain")


def ask(db: sqlite3.Connection, keys: Sequence[str], run_id: str) -> None:
    """The artist is told of the jobs with these ``keys`` in the run ``run_id``."""
    told = [(run_id, key) for key in keys]
    db.executemany("UPDATE jobs SET asked_run = ? WHERE key = ?", told)


def price(db: sqlite3.Connection, key: str) -> float:
    """The higher estimate of a job."""
    row = db.execute("SELECT price FROM jobs WHERE key = ?", (key,)).fetchone()
    return float(row["price"]) if row else 0.0


def bill(db: sqlite3.Connection, key: str, units: float | None, cost: float | None) -> None:
    """What fal says of a job's price; ``cost`` in US dollars."""
    db.execute(
        "UPDATE bills SET units = ?, cost = ? WHERE request_id = "
        "(SELECT request_id FROM jobs WHERE key = ?)",
        (units, cost, key),
    )


def spent(db: sqlite3.Connection, since: float) -> float:
    """US dollars since a moment: billed where fal has said so, else the higher estimate."""
    (billed,) = db.execute(
        "SELECT total(coalesce(cost, estimate)) FROM bills WHERE at >= ?", (since,)
    ).fetchone()
    (underway,) = db.execute(
        "SELECT total(price) FROM jobs WHERE state IN ('submitting', 'uncertain') AND sent_at >= ?",
        (since,),
    ).fetchone()
    return float(billed) + float(underway)
