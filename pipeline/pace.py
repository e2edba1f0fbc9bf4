"""How long the parts of an edit take, judged by what they took before."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from statistics import median
from threading import Lock

KEPT = 5
"""How many times of a kind are remembered: the machine of an hour ago is another machine."""

KINDS = 64

MEASURED_STEPS = 2
"""Steps after the first that make a pace."""


class Paces:
    """Seconds that a unit of each kind of work took, as long as the process lives."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self._lock = Lock()

    def remember(self, kind: Hashable, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(kind, deque(maxlen=KEPT)).append(seconds)
            self._seconds.move_to_end(kind)
            if len(self._seconds) > KINDS:
                self._seconds.popitem(last=False)

    def of(self, kind: Hashable) -> float | None:
        """What a unit takes most likely; None where none of the kind was seen."""
        with self._lock:
            found = self._seconds.get(kind)
            return median(found) if found else None


class StepPace:
    """The time a number of equal steps takes in all, known better with every step.

    The first step also warms up (kernels are compiled, weights streamed in): it counts as spent,
    and says nothing about those to come. Until enough of them are measured, ``remembered`` counts:
    the seconds per step of an earlier edit like this one.
    """

    def __init__(
        self,
        total: int,
        remembered: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._remembered = remembered
        self._clock = clock
        self._began = self._first = self._last = clock()
        self._done = 0

    def step(self) -> None:
        """One more step is done."""
        self._last = self._clock()
        if self._done == 0:
            self._first = self._last
        self._done += 1

    @property
    def measured(self) -> float | None:
        """Seconds per step of these very steps; None where there were too few."""
        count = self._done - 1
        return (self._last - self._first) / count if count >= MEASURED_STEPS else None

    @property
    def expected_s(self) -> float | None:
        """Seconds from the start to the last step; None where nobody can know yet."""
        pace = self.measured
        if pace is None:
            pace = self._remembered
        if pace is None:
            return None
        return self._last - self._began + (self._total - self._done) * pace


def in_turns(seconds_each: float, count: int, at_once: int) -> float:
    """How long ``count`` pieces of work take, ``at_once`` of them at a time."""
    return -(-count // max(at_once, 1)) * seconds_each
