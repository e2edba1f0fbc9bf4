"""From an order to a job: one that is there already, or one that is sent now, and never a second.

A submit whose answer was lost is looked up in fal's request history. What cannot be found there is
sent again only after the artist was told, and has queued it once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import (
    EditCancelled,
    FireRedError,
    JournalError,
    RemoteTimeoutError,
    UncertainError,
    UncollectedError,
)
from ..host import Phase
from .desk import Desk
from .journal import Claim, Entry
from .pricing import DailyLimit
from .protocol.answers import Job
from .protocol.history import payload_digest
from .resolving import look_up
from .waiting import CANCEL_CHECK_S, attend

logger = logging.getLogger(__name__)

HISTORY_PAUSES_S = (0.0, 1.0, 2.0)
"""When to look for an edit whose answer has just been lost: the history may lag behind."""

BROKEN_OFF = "The connection broke while the edit was sent; fal may have accepted it."
QUEUE_AGAIN = (
    "fal's request history does not show it, and may lag. Queue again: it is looked up once more, "
    "and sent anew if it is still not there."
)
NOT_READ = (
    "fal's request history cannot be read now. Queue again in a few minutes: it is sent anew only "
    "after it was looked up there."
)


@dataclass(frozen=True)
class Packed:
    """A submit ready to go: its body, and where in fal's storage its pictures lie."""

    payload: dict[str, Any]
    uploads: list[str]


class Sending(Protocol):
    """What only an edit that is really sent has to do."""

    def reserve(self) -> None:
        """Check the price against the run's limit and set it aside; may raise ``CostError``."""

    def release(self) -> None:
        """Nothing was ordered after all."""

    def pack(self) -> Packed:
        """Encode and upload; may raise."""

    def take_place(self) -> None:
        """Wait for a place in the window; may raise ``EditCancelled``."""

    def daily_limit(self) -> DailyLimit | None:
        """What may be spent today."""

    def cancel(self, job: Job) -> None:
        """Tell fal, in the background, that a job is no longer wanted."""


class Placing:
    """Finds or makes the job of one order. ``sent``: it was this edit that ordered it."""

    def __init__(self, desk: Desk, sending: Sending) -> None:
        self._desk = desk
        self._sending = sending
        self._began = time.time()
        self.sent = False

    def place(self) -> Entry:
        """The job, which is accepted, completed or done."""
        while True:
            if self._desk.host.cancelled():
                raise EditCancelled
            claim = self._desk.journal.claim(self._desk.order, self._desk.visit)
            if claim.entry and claim.turn in ("attach", "serve"):
                self._check_account(claim.entry)
                return claim.entry
            if claim.turn == "wait":
                self._desk.host.phase(Phase("the same edit is being sent by another node"))
                time.sleep(CANCEL_CHECK_S)
            elif claim.turn == "ask":
                raise self._question(list(claim.uncollected))
            elif placed := self._act(claim):
                return placed

    def _check_account(self, entry: Entry) -> None:
        """What another key ordered may not be to be had with this one; the artist is told once."""
        order, run_id = self._desk.order, self._desk.visit.run_id
        if entry.state == "done" or entry.account == order.account:
            return
        if entry.is_unasked(run_id):
            self._desk.journal.asked(entry.key, run_id)
            raise UncollectedError(
                f"This edit was ordered with another fal key (request {entry.request_id}).",
                "Use that key to collect it, or queue again to go on with this one.",
            )

    def _act(self, claim: Claim) -> Entry | None:
        """Send the edit, or find out about an earlier one; None where the claim has changed."""
        if claim.turn == "resolve":
            return self._resolve(claim.entry, pauses=(0.0,)) if claim.entry else None
        journal, key = self._desk.journal, self._desk.order.key
        try:
            found = [entry for entry in claim.doubtful if self._is_found(entry)]
        except BaseException:
            # Left claimed, the same edit would wait for this one as long as the process lives.
            journal.withdraw(key)
            raise
        if found:
            journal.withdraw(key)
            return None
        return self._send()

    def _question(self, entries: list[Entry]) -> UncollectedError:
        for entry in entries:
            self._is_found(entry)
        return uncollected([self._desk.journal.find(entry.key) or entry for entry in entries])

    def _is_found(self, entry: Entry) -> bool:
        """Whether an edit that differs in its seed turned up; the artist was told of it anyway."""
        try:
            return self._look_up(entry, (0.0,))
        except RemoteTimeoutError:
            return False

    # An uncertain submit -------------------------------------------------------------------------

    def _resolve(self, entry: Entry, pauses: tuple[float, ...]) -> Entry | None:
        """Find the job, send it anew if the artist was asked before, else ask."""
        self._desk.host.phase(Phase("looking the edit up in fal's request history"))
        try:
            if self._look_up(entry, pauses):
                return None
        except RemoteTimeoutError as error:
            # Not asked: what was not looked up is not sent anew.
            raise UncertainError(BROKEN_OFF, NOT_READ) from error
        journal, run_id = self._desk.journal, self._desk.visit.run_id
        if entry.is_unasked(run_id) or entry.changed_at > self._began:
            # Whoever was told of it meanwhile was not the one who queued this.
            journal.asked(entry.key, run_id)
            raise UncertainError(BROKEN_OFF, QUEUE_AGAIN)
        return self._send() if journal.retake(entry, self._desk.visit) else None

    def _look_up(self, entry: Entry, pauses: tuple[float, ...]) -> bool:
        """Whether fal's history shows this uncertain job; it is then known by its request id."""

        def look(stopped: Callable[[], bool]) -> bool:
            for pause in pauses if self._desk.client.has_history else ():
                time.sleep(pause)
                if look_up(self._desk.journal, self._desk.client, entry, stopped):
                    return True
            return False

        return entry.state == "uncertain" and attend(look, self._desk.host)

    # Sending -------------------------------------------------------------------------------------

    def _send(self) -> Entry | None:
        """Order the edit; whatever happens, the journal says what came of it."""
        payload = self._prepare()
        self._desk.host.phase(Phase("sending"))
        try:
            job = attend(
                lambda stopped: self._submit(payload, stopped), self._desk.host, self._undo
            )
        except UncertainError:
            entry = self._desk.journal.find(self._desk.order.key)
            if entry is None or entry.state != "uncertain":
                raise
            self.sent = True
            return self._resolve(entry, HISTORY_PAUSES_S)
        self.sent = True
        entry = self._desk.journal.find(self._desk.order.key)
        return replace(entry, state="queued", job=job) if entry else None

    def _prepare(self) -> dict[str, Any]:
        """Everything up to the point where fal may have it."""
        journal, key = self._desk.journal, self._desk.order.key
        try:
            self._sending.reserve()
            packed = self._sending.pack()
            self._sending.take_place()
            digest, limit = payload_digest(packed.payload), self._sending.daily_limit()
            journal.submitting(key, digest, packed.uploads, limit)
        except BaseException:
            self._sending.release()
            journal.withdraw(key)
            raise
        return packed.payload

    def _submit(self, payload: dict[str, Any], stopped: Callable[[], bool]) -> Job:
        """Runs on a thread of its own: what fal answers is written down whoever still waits."""
        journal, key = self._desk.journal, self._desk.order.key
        try:
            job = self._desk.client.submit(payload, stopped)
            self._note(job)
        except UncertainError:
            raise
        except FireRedError as error:
            journal.ended(key, None, "failed", str(error))
            self._sending.release()
            raise
        finally:
            # Whatever else happened, fal may have it.
            with suppress(JournalError):
                journal.doubt(key)
        return job

    def _note(self, job: Job) -> None:
        try:
            self._desk.journal.accepted(self._desk.order.key, job)
        except JournalError:
            # The edit goes on: what is paid for is worth more than the note of it.
            logger.warning("fal accepted request %s, which could not be noted", job.request_id)

    def _undo(self, sent: Future[Job]) -> None:
        """Cancelled while on its way: fal is told as soon as it answers."""
        self._desk.host.say("cancelled while it was sent; fal is told as soon as it answers")

        def take_back(answered: Future[Job]) -> None:
            if answered.exception() is None:
                self._sending.cancel(answered.result())

        sent.add_done_callback(take_back)


def uncollected(entries: list[Entry]) -> UncollectedError:
    """What the artist is asked about edits that differ in the seed alone."""
    first = entries[0]
    others = f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
    return UncollectedError(
        f"This edit with seed {first.seed} {_STATES[first.state]}{others}.",
        f"Set seed {first.seed} to collect it, or use Settings > FireRed > fal; or queue again to "
        "pay for a new one.",
    )


_STATES = {
    "uncertain": "may have been accepted by fal: its answer was lost",
    "queued": "is still at fal",
    "cancelling": "was cancelled but may finish and be billed",
    "result": "is finished and paid, and was never delivered",
    "done": "is finished and paid, and was never delivered",
}
