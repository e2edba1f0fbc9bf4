"""From a completed job to its pictures: on disk first, then to whoever asked.

It knows nothing of Cancel. A completed job is paid for, so this goes on to its end even where
nobody waits any more.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from ..crew import Crew
from ..errors import (
    FireRedError,
    JobFailedError,
    JobGoneError,
    JournalError,
    RejectedError,
    RemoteError,
    ResultError,
)
from ..images import Pixels, decode
from .journal import Entry, Journal, State
from .pricing import dollars
from .protocol.answers import Answer, is_data
from .protocol.client import FalClient

logger = logging.getLogger(__name__)

DOWNLOAD_TRIES = 3

ANEW_S = 15.0
"""How long fal is asked again for an answer that is known already."""

_crew = Crew("firered-fal-download", 8)


def never() -> bool:
    """Nobody stops this."""
    return False


@dataclass(frozen=True)
class Finished:
    """``pictures`` are those that may be shown, each (H, W, 3) uint8, in fal's order."""

    answer: Answer
    pictures: list[Pixels]


class Finisher:
    """Fetches what is paid for, and keeps it."""

    def __init__(self, client: FalClient, journal: Journal) -> None:
        self._client = client
        self._journal = journal

    def finish(self, entry: Entry, stopped: Callable[[], bool] = never) -> Finished:
        """The pictures of a completed job, now on disk as well.

        Raises ``ResultError`` where there are none, or the job's own failure: then it is over.
        """
        known = entry.answer if entry.answer and all(entry.answer.urls) else None
        if known is None:
            return self._bring(entry, self._answer(entry, stopped), stopped)
        try:
            return self._bring(entry, known, stopped)
        except (RemoteError, ResultError):
            anew = self._anew(entry)
            if anew is None or anew.urls == known.urls:
                raise
            return self._bring(entry, anew, stopped)

    def _bring(self, entry: Entry, answer: Answer, stopped: Callable[[], bool]) -> Finished:
        """The pictures that ``answer`` names."""
        shown = [index for index, flag in enumerate(answer.flagged) if not flag]
        downloads = [_crew.submit(partial(self._fetch, answer, index, stopped)) for index in shown]
        if answer is not entry.answer and not answer.is_inline:
            # While the pictures are under way: fal answers the same again if this is not reached.
            self._note(entry, answer)
        fetched = [download.result() for download in downloads]
        self._keep(entry, answer, [data for data, _ in fetched])
        return Finished(answer, [pixels for _, pixels in fetched])

    def _anew(self, entry: Entry) -> Answer | None:
        """fal's answer once more, where the one at hand has led nowhere; None for none.

        Whatever is said instead, the job is not over for it: it would be ordered again.
        """
        assert entry.job is not None
        until = time.monotonic() + ANEW_S
        with suppress(FireRedError):
            return self._client.result(entry.job, lambda: time.monotonic() > until)
        return None

    def _answer(self, entry: Entry, stopped: Callable[[], bool]) -> Answer:
        assert entry.job is not None
        with ending(self._journal, entry):
            return self._client.result(entry.job, stopped)

    def _note(self, entry: Entry, answer: Answer) -> None:
        with _logged(entry):
            self._journal.answered(entry.key, answer, dollars(answer.units))

    def _fetch(
        self, answer: Answer, index: int, stopped: Callable[[], bool]
    ) -> tuple[bytes, Pixels]:
        """One picture, as sent and decoded; fetched again where it arrives damaged."""
        url, size = answer.urls[index], answer.sizes[index]
        for _ in range(DOWNLOAD_TRIES - 1):
            with suppress(ResultError):
                return self._fetch_once(url, size, stopped)
        # A picture that is whole each time is what was paid for, whatever size fal declares.
        return self._fetch_once(url, None, stopped)

    def _fetch_once(
        self, url: str, size: tuple[int, int] | None, stopped: Callable[[], bool]
    ) -> tuple[bytes, Pixels]:
        data = inline(url) if is_data(url) else self._download(url, stopped)
        pixels = decode(data)
        height, width = pixels.shape[:2]
        if size is not None and size != (width, height):
            raise ResultError(
                f"The result is {width}x{height} pixels where fal said {size[0]}x{size[1]}.",
                "Run the edit again: it is fetched anew, at no further cost.",
            )
        return data, pixels

    def _download(self, url: str, stopped: Callable[[], bool]) -> bytes:
        try:
            return self._client.download(url, stopped)
        except JobGoneError as error:
            raise ResultError(
                "The picture is not where fal said it is.", "Run the edit again to look once more."
            ) from error

    def _keep(self, entry: Entry, answer: Answer, pictures: list[bytes]) -> None:
        with _logged(entry):
            files = [
                self._journal.results.store(entry.key, number, data)
                for number, data in enumerate(pictures, 1)
            ]
            if answer.is_inline:
                self._note(entry, replace(answer, urls=["" for _ in answer.urls]))
            self._journal.stored(entry.key, files, delivered=not files)


@contextmanager
def ending(journal: Journal, entry: Entry) -> Iterator[None]:
    """Write down that a job is over where its own failure is raised; lost lines are none."""
    try:
        yield
    except (JobFailedError, JobGoneError, RejectedError) as error:
        state: State = "cancelled" if was_cancelled(error) else "failed"
        journal.ended(entry.key, entry.request_id, state, str(error), _cost_of_failure(error))
        if isinstance(error, RejectedError):
            # Where it was an address that fal could not read, the next try must not use it.
            journal.uploads.forget_uploads(entry.uploads)
        raise


@contextmanager
def _logged(entry: Entry) -> Iterator[None]:
    """A full disk must not keep a paid picture from the artist."""
    try:
        yield
    except JournalError as error:
        logger.warning("the result of request %s was not kept: %s", entry.request_id, error)


def _cost_of_failure(error: RemoteError) -> float | None:
    """fal bills no failure of its own; what it refused it may bill, if it says so."""
    return dollars(error.units) if isinstance(error, RejectedError) else 0.0


def kept(journal: Journal, entry: Entry) -> Finished | None:
    """The pictures of a job that is done, from disk; None where one is gone or damaged."""
    loaded = [journal.results.load(name) for name in entry.files]
    if entry.answer is None:
        return None
    try:
        return Finished(entry.answer, [decode(data or b"") for data in loaded])
    except ResultError:
        return None


def was_cancelled(error: Exception) -> bool:
    """Whether the job ended because somebody cancelled it."""
    if isinstance(error, JobFailedError):
        return error.error_type in ("client_cancelled", "client_disconnected")
    return isinstance(error, JobGoneError)


def inline(uri: str) -> bytes:
    """The bytes of a data URI, which ``sync_mode`` answers with."""
    header, _, body = uri.partition(",")
    try:
        if not header.endswith(";base64"):
            raise ValueError(header)
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise ResultError(
            "The picture inside fal's answer is damaged.", "Run the edit again."
        ) from None
