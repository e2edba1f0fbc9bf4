"""Where in a composite a picture lies, in words that fit no other picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_NUMERALS = "二三四五六七八九"

# By direction, across first: the first part, the middle one of three, the last.
_SIDES = {True: ("left", "middle", "right"), False: ("top", "middle", "bottom")}
_SIDES_ZH = {True: ("左侧", "中间", "右侧"), False: ("上方", "中间", "下方")}


@dataclass(frozen=True)
class Step:
    """Part ``index`` (from 0) of ``count``, left to right where ``across``, else top to bottom."""

    across: bool
    index: int
    count: int

    @property
    def side(self) -> int | None:
        """0 for the first, 2 for the last, 1 for the middle of three; None for any other."""
        if self.index in (0, self.count - 1):
            return 2 if self.index else 0
        return 1 if self.count == 3 else None


def where(path: Sequence[Step], chinese: bool) -> str:
    """ "bottom right part" or "右下部分" for the way from the whole composite to a picture.

    Steps across and down take turns along ``path``. Without a step the picture is alone: "".
    """
    say = _chinese if chinese else _english
    phrases = [say(steps) for steps in _paired(path)]
    return "的".join(phrases) if chinese else " of the ".join(reversed(phrases))


def _paired(path: Sequence[Step]) -> list[Sequence[Step]]:
    """A step across and one down are one place, such as the top left, where both have a side."""
    pairs: list[Sequence[Step]] = []
    while path:
        length = 2 if all(step.side is not None for step in path[:2]) else 1
        pairs.append(path[:length])
        path = path[length:]
    return pairs


def _english(steps: Sequence[Step]) -> str:
    (first, *_) = steps
    if first.side is None:
        start = _SIDES[first.across][0]
        return f"{_ORDINALS[first.index - 1]} part from the {start}"
    if all(step.side == 1 for step in steps) and len(steps) == 2:
        return "centre part"
    ordered = sorted(steps, key=lambda step: step.across)
    return " ".join([*(_SIDES[step.across][step.side or 0] for step in ordered), "part"])


def _chinese(steps: Sequence[Step]) -> str:
    (first, *_) = steps
    if first.side is None:
        start = "左" if first.across else "上"
        return f"{start}起第{_NUMERALS[first.index - 1]}部分"
    if len(steps) == 1:
        return f"{_SIDES_ZH[first.across][first.side]}部分"
    if all(step.side == 1 for step in steps):
        return "正中部分"
    across, down = sorted(steps, key=lambda step: not step.across)
    return f"{'左中右'[across.side or 0]}{'上中下'[down.side or 0]}部分"
