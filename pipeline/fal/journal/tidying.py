"""Keeping the journal small: what is old goes, and what takes too much room."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .entries import COLLECTABLE, ENDED, Entry
from .journal import Journal

DAY_S = 24 * 3600.0

MAX_AGE_S = 30 * DAY_S
"""fal keeps what it knows of a job for as long."""

MAX_BILL_AGE_S = 400 * DAY_S
MAX_BYTES = 2 * 1024**3
"""Of pictures on disk. Delivered ones go first, then the oldest."""

STRAY_AGE_S = DAY_S
"""A file that no job names may still be in the making."""


def tidy(journal: Journal, max_bytes: int = MAX_BYTES) -> None:
    """Remove what is too old or too much."""
    now = time.time()
    _drop_side_lines(journal, now)
    entries = journal.entries((*COLLECTABLE, *ENDED))
    old = [entry for entry in entries if now - entry.changed_at > MAX_AGE_S]
    remove(journal, old)
    kept = [entry for entry in entries if now - entry.changed_at <= MAX_AGE_S]
    _fit(journal, kept, max_bytes, now)


def _drop_side_lines(journal: Journal, now: float) -> None:
    with journal.database.writing() as db:
        db.execute("DELETE FROM uploads WHERE expires_at < ?", (now,))
        db.execute("DELETE FROM bills WHERE at < ?", (now - MAX_BILL_AGE_S,))
        owners = [row["owner"] for row in db.execute("SELECT DISTINCT owner FROM visits")]
        gone = [(owner,) for owner in owners if not journal.owners.alive(owner)]
        db.executemany("DELETE FROM visits WHERE owner = ?", gone)


def _fit(journal: Journal, entries: list[Entry], max_bytes: int, now: float) -> None:
    """Remove strays, then jobs with pictures until the rest fits."""
    owner = {name: entry for entry in entries for name in entry.files}
    sizes: dict[str, int] = {}
    for name, size, changed_at in journal.results.sizes():
        if name in owner:
            sizes[name] = size
        elif now - changed_at > STRAY_AGE_S:
            journal.results.remove([name])
    excess = sum(sizes.values()) - max_bytes
    surplus: list[Entry] = []
    for entry in sorted((entry for entry in entries if entry.files), key=_worth):
        if excess <= 0:
            break
        excess -= sum(sizes.get(name, 0) for name in entry.files)
        surplus.append(entry)
    remove(journal, surplus)


def _worth(entry: Entry) -> tuple[bool, float]:
    return entry.delivered_at is None, entry.changed_at


def remove(journal: Journal, entries: Iterable[Entry]) -> None:
    """Forget each of ``entries`` that nobody is at, and its pictures with it."""
    for entry in entries:
        if journal.forget(entry):
            journal.results.remove(entry.files)
