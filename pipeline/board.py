"""What an artist reads on one node while its edits run: the phase of one, the count of many.

ComfyUI runs a node once for each element of a list, on fal all of them at once, and the node has
one line of text and one bar for all.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from threading import RLock
from typing import Literal

from .host import Phase
from .pace import in_turns

Outcome = Literal["done", "cancelled", "failed", "left at fal"]
"""How an edit left its node; ``left at fal``: it goes on there without it."""

BAR = 1000
"""Parts of the bar of several edits at once."""

WAITING = Phase("").counted

LINES = 8
"""What is shown at most of what many edits came to."""


@dataclass
class Slot:
    """One edit of a node, as its board knows it. Times are those of the board's clock."""

    entered: float
    begun: float | None = None
    """Since when it is at work, where that is told apart from waiting."""
    phase: Phase | None = None
    phase_began: float = 0.0
    words: str = ""
    share: tuple[int, int] = (0, 1)
    outcome: Outcome | None = None
    left: float = 0.0


@dataclass
class Board:
    """One node in one run. Usable from any thread."""

    clock: Callable[[], float] = time.monotonic
    _slots: list[Slot] = field(default_factory=list)
    _most: int = 0
    """The most edits that were open at once."""
    _busiest: int = 1
    """The most that were at work at once."""
    _bar: int = 0
    _lock: RLock = field(default_factory=RLock)

    # What edits tell ---------------------------------------------------------------------------

    def enter(self) -> Slot:
        """One more edit of this node has begun."""
        with self._lock:
            slot = Slot(self.clock())
            self._slots.append(slot)
            self._most = max(self._most, len(self._open()))
            return slot

    def tell(self, slot: Slot, phase: Phase) -> None:
        with self._lock:
            if slot.outcome is not None:
                return
            if slot.phase is None or slot.phase.timed_by != phase.timed_by:
                slot.phase_began = self.clock()
            slot.phase = phase
            if slot.begun is None and phase.counted != WAITING:
                slot.begun = self.clock()
                self._busiest = max(self._busiest, sum(s.begun is not None for s in self._open()))

    def say(self, slot: Slot, text: str) -> None:
        """Words that stay. A cancelled edit may still tell what that means for its price."""
        with self._lock:
            if slot.outcome in (None, "cancelled"):
                slot.phase, slot.words = None, text

    def advance(self, slot: Slot, value: int, total: int) -> None:
        with self._lock:
            slot.share = (value, total)

    def leave(self, slot: Slot, outcome: Outcome, words: str = "") -> None:
        """The edit is over for its node; ``words`` replace what it said last.

        Not what a cancelled edit had to say itself: that is about its price.
        """
        with self._lock:
            if slot.outcome is not None:
                return
            if words and not (outcome == "cancelled" and slot.phase is None and slot.words):
                slot.words = words
            slot.phase, slot.outcome, slot.left = None, outcome, self.clock()

    # What the artist reads ---------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether no edit of this node goes on."""
        with self._lock:
            return not self._open()

    def text(self) -> str:
        """The node's text as of now; empty as long as there is nothing to say."""
        with self._lock:
            if not self._slots:
                return ""
            if self._most > 1:
                return self._ending() if self.over else self._counts()
            return self._line(self._slots[-1])

    def bar(self) -> tuple[int, int]:
        """Value and maximum; of several edits at once it never goes back."""
        with self._lock:
            if self._most < 2:
                return self._slots[-1].share if self._slots else (0, 1)
            shares = [1.0 if slot.outcome else _part(slot.share) for slot in self._slots]
            self._bar = max(self._bar, int(BAR * sum(shares) / len(shares)))
            return self._bar, BAR

    def _open(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.outcome is None]

    def _line(self, slot: Slot) -> str:
        """The words of the only edit, or of the latest of a list that runs one by one."""
        if slot.phase is None:
            spent = slot.left - slot.entered
            return slot.words or (f"done in {as_clock(spent)}" if slot.outcome else "")
        number = len(self._slots)
        before = f"edit {number} · " if number > 1 else ""
        spent = self.clock() - slot.phase_began
        return f"{before}{slot.phase.text}{_beside(spent, slot.phase.expected_s)}"

    def _counts(self) -> str:
        """How far several edits are, and where one alone is left what that one does."""
        waiting = self._open()
        spent = self.clock() - self._slots[0].entered
        line = f"{self._counted()}{_beside(spent, self._expected())}"
        last = waiting[0].phase if len(waiting) == 1 else None
        return f"{line}\n{last.text}" if last else line

    def _counted(self) -> str:
        """How many edits there are, and how many of them are where."""
        states = Counter(slot.outcome or _state(slot) for slot in self._slots)
        counted = ", ".join(f"{states[name]} {name}" for name in sorted(states, key=_rank))
        return f"{len(self._slots)} edits: {counted}"

    def _expected(self) -> float | None:
        """The turns it takes, from what those that are done took, or else should take."""
        begun = [slot.begun for slot in self._slots if slot.begun is not None]
        each = self._typical()
        if each is None or not begun:
            return None
        # What was found on disk was never at work.
        count = sum(slot.begun is not None or slot.outcome is None for slot in self._slots)
        return min(begun) - self._slots[0].entered + in_turns(each, count, self._busiest)

    def _typical(self) -> float | None:
        done = [slot for slot in self._slots if slot.outcome == "done"]
        took = [slot.left - slot.begun for slot in done if slot.begun is not None]
        if took:
            return median(took)
        told = [slot.phase.expected_s for slot in self._slots if slot.phase]
        return next((seconds for seconds in told if seconds is not None), None)

    def _ending(self) -> str:
        """What several edits came to: first what failed, then how many of each."""
        failed = [slot.words for slot in self._slots if slot.outcome == "failed"]
        spent = max(slot.left for slot in self._slots) - self._slots[0].entered
        others = [slot.words for slot in self._slots if slot.outcome != "failed"]
        head = f"{self._counted()} · {as_clock(spent)}"
        return "\n".join([*failed[:1], head, *_tally(others)])


def _state(slot: Slot) -> str:
    """Where an open edit is; done with all, it may wait for ComfyUI to take what it made."""
    if slot.phase:
        return slot.phase.counted
    return "done" if _part(slot.share) == 1.0 else WAITING


_ORDER = ("done", "failed", "cancelled", "left at fal", "at fal")


def _rank(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def _part(share: tuple[int, int]) -> float:
    value, total = share
    return min(1.0, value / total) if total > 0 else 0.0


def _tally(words: Iterable[str]) -> list[str]:
    """Every line of ``words`` once, with how often it was said."""
    lines = Counter(line for text in words for line in text.split("\n") if line)
    shown = [f"{count} × {line}" for line, count in lines.items()]
    if len(shown) <= LINES:
        return shown
    return [*shown[: LINES - 1], f"and {len(shown) - LINES + 1} more"]


def _beside(spent: float, expected: float | None) -> str:
    """The clock beside a phase; nothing in its first second, where it would only flicker."""
    if expected is not None and expected < spent:
        return f" · {as_clock(spent)}, longer than expected"
    if expected is not None and expected >= 1:
        return f" · {as_clock(spent)} of about {as_clock(expected)}"
    return f" · {as_clock(spent)}" if spent >= 1 else ""


def as_clock(seconds: float) -> str:
    """``0:34``, ``12:05`` or ``1:02:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
