"""Edits on fal as a process that has died leaves them in the journal."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from firered_edit.pipeline.fal.journal import Journal, Order, Shape, new_visit
from firered_edit.pipeline.fal.keys import account_of
from firered_edit.pipeline.fal.protocol.answers import Answer, Job
from firered_edit.pipeline.geometry import Size
from firered_edit.pipeline.images import Pixels, encode_png
from support.server_fixtures import FAL_KEY

UNITS, COST = 1.0, 0.0325
"""What fal billed for each, and that in US dollars."""


@dataclass(frozen=True)
class Orphan:
    """An edit, by what decides its row: another prompt or seed is another edit."""

    prompt: str
    seed: int

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.prompt} {self.seed}".encode()).hexdigest()

    @property
    def request_id(self) -> str:
        return f"request-{self.key[:8]}"


def data_folder(base: Path) -> Path:
    """The pack's private folder in a ComfyUI with the folders of ``base``."""
    return base / "user" / "__firered"


def leave_at_fal(folder: Path, orphan: Orphan, job: Job, size: tuple[int, int]) -> None:
    """fal has accepted it, for a picture of ``size``, and then its process died."""
    with _dying(folder) as journal:
        _order(journal, orphan, job, size)


def leave_finished(folder: Path, orphan: Orphan, pictures: list[Pixels]) -> None:
    """Its pictures are on disk, and then its process died."""
    height, width = pictures[0].shape[:2]
    job = Job(orphan.request_id, *(f"http://127.0.0.1/{name}" for name in ("s", "r", "c")))
    urls = [f"http://127.0.0.1/{number}.png" for number, _ in enumerate(pictures, 1)]
    answer = Answer(urls, [False] * len(urls), orphan.seed, orphan.prompt, units=UNITS)
    with _dying(folder) as journal:
        _order(journal, orphan, job, (width, height))
        journal.answered(orphan.key, answer, COST)
        encoded = enumerate(map(encode_png, pictures), 1)
        files = [journal.results.store(orphan.key, number, data) for number, data in encoded]
        journal.stored(orphan.key, files)


def forget_all(folder: Path) -> None:
    """Nothing waits any more of what earlier tests left behind, whatever its state."""
    if (file := folder / "journal.db").exists():
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("UPDATE jobs SET delivered_at = ? WHERE delivered_at IS NULL", [time.time()])


@contextmanager
def _dying(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder)
    try:
        yield journal
    finally:
        journal.close()


def _order(journal: Journal, orphan: Orphan, job: Job, size: tuple[int, int]) -> None:
    width, height = size
    order = Order(
        key=orphan.key,
        family=orphan.key[::-1],
        seed=orphan.seed,
        prompt=orphan.prompt,
        account=account_of(FAL_KEY),
        price=COST,
        shape=Shape(Size(width, height), (float(width), float(height)), Size(width, height)),
    )
    assert journal.claim(order, new_visit("a run of long ago")).turn == "send"
    journal.submitting(order.key, "a digest of the payload", [], None)
    journal.accepted(order.key, job)
