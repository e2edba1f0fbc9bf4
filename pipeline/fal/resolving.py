"""Finding out whether fal has an edit whose submit was never answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from .journal import Entry, Journal
from .protocol.client import FalClient

CLOCK_SKEW_S = 3600.0
"""How far this machine's clock may be ahead of fal's."""


def look_up(journal: Journal, client: FalClient, entry: Entry, stopped: Callable[[], bool]) -> bool:
    """Whether fal's request history shows this uncertain job; then its request id is noted."""
    if entry.state != "uncertain" or entry.payload_digest is None or entry.sent_at is None:
        return False
    since = datetime.fromtimestamp(entry.sent_at - CLOCK_SKEW_S, UTC)
    request_id = client.find(entry.payload_digest, since, journal.request_ids(), stopped)
    if request_id is None:
        return False
    journal.accepted(entry.key, client.job_named(request_id))
    return True
