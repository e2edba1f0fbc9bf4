"""Trying again: how often, how soon, and for how long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeVar

RETRY_PAUSE_S = (0.25, 20.0)
"""The longest pause before the second try, and before any; doubled in between."""

MAX_RETRY_AFTER_S = 120.0

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

_STOP_CHECK_S = 0.05

T = TypeVar("T")


class Again(Exception):  # noqa: N818 - a signal between functions, never seen outside
    """A failure that may pass when the request is repeated, ``after`` so many seconds if given."""

    def __init__(self, problem: str, remedy: str = "", after: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.after = after


def repeat(
    once: Callable[[], T],
    stopped: Callable[[], bool],
    patience_s: float,
    give_up: Callable[[Again], Exception],
) -> T:
    """``once``, tried while it raises ``Again``, nobody stops it and ``patience_s`` allows."""
    deadline = time.monotonic() + patience_s
    for pause in pauses():
        try:
            return once()
        except Again as failure:
            wait = pause if failure.after is None else failure.after
            if time.monotonic() + wait > deadline or not rest(wait, stopped):
                raise give_up(failure) from failure.__cause__
    raise AssertionError("pauses do not end")


def pauses() -> Iterator[float]:
    """Seconds before each further try: random, for edits that failed together come together."""
    first, longest = RETRY_PAUSE_S
    for number in count():
        yield random.uniform(0, min(longest, first * 2 ** min(number, 16)))


def rest(seconds: float, stopped: Callable[[], bool]) -> bool:
    """Wait; whether nobody has stopped it."""
    until = time.monotonic() + seconds
    while not stopped():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _STOP_CHECK_S))
    return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; None where it does not say or is not understood."""
    value = headers.get("Retry-After", "").strip()
    seconds = float(value) if value.isdecimal() else _seconds_until(value)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _seconds_until(date: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return (aware - datetime.now(UTC)).total_seconds()
