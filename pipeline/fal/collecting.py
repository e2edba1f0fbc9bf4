"""Jobs that nobody waits for are followed to their end all the same: they are paid for.

They are what an earlier process left behind, what was cancelled while fal was at it, and what took
longer than an edit node waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock

from ..crew import Crew
from ..errors import FireRedError, ResultError
from .connecting import Connection, connect
from .finishing import Finisher, ending
from .journal import ACCEPTED, Entry, Journal, PerFolder, journal_in, tidy
from .keys import account_of
from .protocol.answers import Status
from .protocol.client import FalClient
from .resolving import look_up

logger = logging.getLogger(__name__)

PATIENCE_S = 24 * 3600.0
"""How long one job is followed; at the next start it is followed again."""

FOLLOWED_AT_ONCE = 4


class Collector:
    """Follows jobs of one journal in the background."""

    def __init__(self, journal: Journal, connect: Callable[[], Connection]) -> None:
        self._journal = journal
        self._connect = connect
        self._crew = Crew("firered-fal-collect", FOLLOWED_AT_ONCE)
        self._lock = Lock()
        self._followed: set[str] = set()
        self._unusable: set[str] = set()
        """Whose pictures could not be had; looked at again in the next process."""
        self._closed = Event()

    def close(self) -> None:
        """Follow nothing further; what is followed now is left where it is."""
        self._closed.set()

    def follow_all(self) -> int:
        """Tidy up, then follow every job that nobody waits for; how many those are."""
        tidy(self._journal)
        entries = self._journal.unattended(("uncertain", "queued", "cancelling", "result"))
        for entry in entries:
            self.follow(entry.key)
        return len(entries)

    def follow(self, key: str) -> None:
        """Follow the job of that key to its end."""
        with self._lock:
            if key in self._followed | self._unusable:
                return
            self._followed.add(key)
        self._crew.submit(lambda: self._follow(key))

    def _follow(self, key: str) -> None:
        try:
            self._bring_home(key, self._connect())
        except FireRedError as error:
            if isinstance(error, ResultError):
                self._unusable.add(key)
            logger.info("edit %s on fal is left as it is: %s", key[:8], error)
        finally:
            with self._lock:
                self._followed.discard(key)

    def _bring_home(self, key: str, connection: Connection) -> None:
        entry = self._journal.find(key)
        if entry is None or entry.account != account_of(connection.key):
            # With another key fal would say that there is no such job.
            return
        client = connection.client()
        if look_up(self._journal, client, entry, self._closed.is_set):
            entry = self._journal.find(key)
        if entry is None or entry.job is None or entry.state not in ACCEPTED:
            return
        with ending(self._journal, entry):
            completed = entry.state == "result" or self._await_completion(client, entry)
        if completed:
            Finisher(client, self._journal).finish(entry, self._closed.is_set)

    def _await_completion(self, client: FalClient, entry: Entry) -> bool:
        """Whether the job is completed; False where this was closed, or it took too long."""
        assert entry.job is not None
        deadline = time.monotonic() + PATIENCE_S
        seen: list[Status] = []
        client.follow(
            entry.job,
            lambda: self._closed.is_set() or time.monotonic() > deadline,
            seen.append,
            cancelled=entry.state == "cancelling",
        )
        return bool(seen) and seen[-1].state == "COMPLETED"


def _collector(data_folder: Path) -> Collector:
    return Collector(journal_in(data_folder), lambda: connect(data_folder))


collector_in = PerFolder(_collector)
"""The one collector of a data folder in this process."""
