"""The journal's file: one sqlite database, readable by this user only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from ...errors import JournalError

SCHEMA_VERSION = 1

BUSY_TIMEOUT_S = 15.0
"""How long a write waits for another process; each holds the file for milliseconds."""

_SCHEMA = """
CREATE TABLE jobs (
    key TEXT PRIMARY KEY,
    family TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    seed INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    account TEXT NOT NULL,
    price REAL NOT NULL,
    shape TEXT NOT NULL,
    changed_at REAL NOT NULL,
    sent_at REAL,
    payload_digest TEXT,
    uploads TEXT NOT NULL DEFAULT '[]',
    request_id TEXT,
    addresses TEXT,
    answer TEXT,
    files TEXT NOT NULL DEFAULT '[]',
    problem TEXT,
    asked_run TEXT,
    delivered_at REAL
);
CREATE INDEX jobs_by_family ON jobs (family);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE visits (token TEXT PRIMARY KEY, key TEXT NOT NULL, owner TEXT NOT NULL);
CREATE INDEX visits_by_key ON visits (key);
CREATE TABLE bills (
    request_id TEXT PRIMARY KEY, at REAL NOT NULL, estimate REAL NOT NULL, units REAL, cost REAL
);
CREATE INDEX bills_by_time ON bills (at);
CREATE TABLE uploads (
    digest TEXT NOT NULL, storage TEXT NOT NULL, url TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (digest, storage)
);
"""


class Database:
    """One connection for the process; its threads take turns, and so do other processes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = RLock()
        with self._named_errors():
            _make_private(file)
            self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            # Refused on network shares, where sqlite then keeps its older way, as safe but slower.
            connection.execute("PRAGMA journal_mode = WAL")
            # The next step after each write is a payment: it must survive a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        if version > SCHEMA_VERSION:
            raise JournalError(
                "The journal of paid edits was written by a newer version of FireRed Edit.",
                "Update this pack.",
            )

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process can come between; durable once it is left."""
        with self._named_errors(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The same connection for single look-ups."""
        with self._named_errors(), self._lock:
            yield self._connection

    def size(self) -> int:
        """Bytes on disk, sqlite's side files included."""
        found = 0
        for file in self._file.parent.glob(f"{self._file.name}*"):
            with self._named_errors(), suppress(FileNotFoundError):
                found += file.stat().st_size
        return found

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise JournalError(
                f"The journal of paid edits cannot be used: {error}.",
                f"Make room, or make {self._file.parent.name} writable, and run again.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise JournalError(
                f"The journal of paid edits is damaged: {error}.",
                f"Rename {self._file.name} in {self._file.parent.name}, and look at "
                "fal.ai/dashboard for edits that it knew.",
            ) from error
        except OSError as error:
            raise JournalError(
                f"The journal of paid edits cannot be opened: {error.strerror}.",
                f"Make the folder {self._file.parent.name} writable and run again.",
            ) from error


def _make_private(file: Path) -> None:
    """Create ``file`` as its user's alone; sqlite gives its side files the same mode."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
