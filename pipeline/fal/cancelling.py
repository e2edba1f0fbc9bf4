"""The artist's Cancel, on its way to fal."""

from __future__ import annotations

from concurrent import futures

from ..crew import Crew
from .collecting import collector_in
from .desk import Desk
from .finishing import never
from .journal import Entry
from .protocol.answers import Job, State

ANSWER_S = 2.0
"""How long the artist waits for fal to confirm; it is asked on in the background."""

KEPT = "if it completes all the same, its picture is kept: Settings > FireRed > fal"

_crew = Crew("firered-fal-cancel", 64)


def cancel(desk: Desk, entry: Entry, state: State | None) -> None:
    """Tell fal at once that the job is no longer wanted, and say what that means for its price.

    Another edit that waits for the same job keeps it. What completes all the same is collected.
    """
    if entry.job is None:
        return
    if desk.journal.is_shared(entry.key, desk.visit):
        desk.host.say("cancelled here; another node still waits for the same edit")
        return
    job = entry.job
    asked = _crew.submit(lambda: desk.client.cancel(job, never))
    desk.journal.cancelling(entry.key)
    desk.journal.leave(desk.visit)
    done, _ = futures.wait([asked], ANSWER_S)
    outcome = asked.result() if done else "unreachable"
    desk.host.say(_words(outcome, state))
    _collect(desk, entry.key)


def take_back(desk: Desk, job: Job) -> None:
    """Cancel a job that was accepted after the artist had gone. Never raises; may take a minute."""
    desk.client.cancel(job, never)
    desk.journal.cancelling(desk.order.key)
    _collect(desk, desk.order.key)


def _collect(desk: Desk, key: str) -> None:
    collector_in(desk.host.data_folder).follow(key)


def _words(outcome: str, state: State | None) -> str:
    if outcome == "unreachable":
        return f"cancelled here; fal has not confirmed, and may bill it: {KEPT}"
    if outcome == "finished":
        return "it had finished already and is billed; its picture is in Settings > FireRed > fal"
    if outcome == "unknown" or state == "IN_QUEUE":
        return "cancelled while queued: not billed"
    return f"cancelled while running: fal may bill it; {KEPT}"
