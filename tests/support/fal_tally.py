"""What came of many edits on a loopback fal: whose picture arrived, and what was paid for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from doubles.fal_server.faults import Phase
from support.fal_worker import DELIVERED, UNNAMED, WRONG, Ended, Footprint, prompt

MAX_GROWTH, MAX_GROWTH_BYTES = 0.1, 30e6


def is_flat(footprints: Sequence[Footprint]) -> bool:
    """Whether a process has hardly grown since it was warm."""
    _, warm, end = footprints
    return end.rss - warm.rss < min(MAX_GROWTH * warm.rss, MAX_GROWTH_BYTES)


@dataclass
class Outcome:
    """What came of it. ``ended`` holds an edit twice that two processes carried out."""

    seconds: float = 0.0
    kills: int = 0
    ended: list[Ended] = field(default_factory=list)
    footprints: list[list[Footprint]] = field(default_factory=list)
    """Of the last life of each process: at its start, when it was warm, and at its end."""
    planned: Counter[Phase] = field(default_factory=Counter)
    taken: int = 0
    requests: int = 0
    submits: int = 0
    bills: Counter[tuple[int, str]] = field(default_factory=Counter)
    """How often fal billed each edit, by seed and prompt."""
    backlog: set[tuple[int, str]] = field(default_factory=set)

    @property
    def delivered(self) -> set[int]:
        return {ended.number for ended in self.ended if ended.outcome == DELIVERED}

    @property
    def errors(self) -> Counter[str]:
        return Counter(error for ended in self.ended for error in ended.errors)

    @property
    def undelivered(self) -> list[Ended]:
        """Those that were given up, or brought the wrong picture."""
        return [ended for ended in self.ended if ended.outcome != DELIVERED]

    @property
    def billed_twice(self) -> list[tuple[int, str]]:
        return [edit for edit, count in self.bills.items() if count > 1]

    @property
    def lost(self) -> list[tuple[int, str]]:
        had = self.backlog | {(number, prompt(number)) for number in self.delivered}
        return [edit for edit in self.bills if edit not in had]

    @property
    def is_sound(self) -> bool:
        """Whether all money is well spent and every error has a name."""
        unnamed = any(error.startswith(UNNAMED) for error in self.errors)
        wrong = any(ended.outcome == WRONG for ended in self.ended)
        return not (self.billed_twice or self.lost or unnamed or wrong)

    @property
    def is_flat(self) -> bool:
        return all(map(is_flat, self.footprints))
