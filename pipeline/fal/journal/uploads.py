"""Where pictures lie in fal's storage that were uploaded before."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .database import Database


class Uploads:
    """Addresses by the digest of a picture, for as long as fal keeps it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def uploaded(self, digest: str, storage: str) -> str | None:
        """Where ``storage`` has the picture, if it is still to live."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT url FROM uploads WHERE digest = ? AND storage = ? AND expires_at > ?",
                (digest, storage, time.time()),
            ).fetchone()
        return row["url"] if row else None

    def remember_upload(self, digest: str, storage: str, url: str, expires_at: float) -> None:
        """``url`` is good until ``expires_at``, in seconds since 1970."""
        with self._database.writing() as db:
            values = (digest, storage, url, expires_at)
            db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", values)

    def count(self) -> int:
        """How many pictures still live there."""
        with self._database.reading() as db:
            (count,) = db.execute(
                "SELECT count(*) FROM uploads WHERE expires_at > ?", (time.time(),)
            ).fetchone()
        return int(count)

    def forget_uploads(self, urls: Sequence[str]) -> None:
        """fal could not read one of these."""
        with self._database.writing() as db:
            db.executemany("DELETE FROM uploads WHERE url = ?", [(url,) for url in urls])
