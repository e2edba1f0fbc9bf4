"""Slicing trees: every way to lay pictures in rows and columns without a gap, and the best of them.

A row gives its parts one height, a column one width, so a tree knows its aspect (width over height)
and every picture's share of its area from the aspects of the pictures alone. All trees of all
groups of one length are made at once, as arrays: six pictures have 394 trees, eight have 8,558.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

ASPECTS = (0.5, 2.0)
"""What the aspect of a composite lies within, unless its pictures leave no choice."""

ALIKE = 1e-9
"""Scores this close are equal: what differs is the order of additions."""

Kind = Literal["picture", "row", "column"]
_KINDS: tuple[Kind, ...] = ("picture", "row", "column")

Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_Numbers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.intp]]


@dataclass(frozen=True)
class Split:
    """``parts`` side by side, or one above the other; never fewer than two."""

    kind: Literal["row", "column"]
    parts: tuple[Tree, ...]


Tree: TypeAlias = int | Split
"""A picture by its place in its group, from 0, or a split."""


def aspect_of(tree: Tree, aspects: Sequence[float]) -> float:
    """Width over height of ``tree``."""
    if isinstance(tree, int):
        return aspects[tree]
    parts = [aspect_of(part, aspects) for part in tree.parts]
    return sum(parts) if tree.kind == "row" else 1 / sum(1 / part for part in parts)


class BestTrees:
    """The best tree of each of several groups of equally many pictures, in reading order.

    ``aspects`` is (groups, pictures). Best is first an aspect within ``ASPECTS``, or as near as can
    be; then the largest share for the smallest picture; of equals, the tree nearest to a square.

    ``excess`` (groups,) says how far the aspects lie beyond ``ASPECTS``, as a logarithm; ``shares``
    (groups,) are those of the smallest pictures.
    """

    def __init__(self, aspects: Floats) -> None:
        self._aspects = aspects
        self._made: dict[tuple[int, int, Kind], _Layouts] = {}
        found = self._any(0, aspects.shape[1], _KINDS)
        slants = np.abs(np.log(found.aspects))
        excess = np.maximum(slants - math.log(ASPECTS[1]), 0)
        fit = excess <= excess.min(axis=1, keepdims=True) + ALIKE
        shares = np.where(fit, found.shares, 0)
        best = shares >= shares.max(axis=1, keepdims=True) - ALIKE
        self._chosen: _Numbers = np.where(best, np.round(slants, 9), np.inf).argmin(axis=1)
        chosen = self._chosen[:, None]
        self.excess: Floats = np.take_along_axis(excess, chosen, axis=1)[:, 0]
        self.shares: Floats = np.take_along_axis(shares, chosen, axis=1)[:, 0]

    def tree(self, group: int) -> Tree:
        return self._tree(0, self._aspects.shape[1], _KINDS, int(self._chosen[group]))

    def _any(self, start: int, stop: int, kinds: Sequence[Kind]) -> _Layouts:
        return _together([self._of_kind(start, stop, kind) for kind in kinds])

    def _of_kind(self, start: int, stop: int, kind: Kind) -> _Layouts:
        key = (start, stop, kind)
        if key not in self._made:
            self._made[key] = self._make(start, stop, kind)
        return self._made[key]

    def _make(self, start: int, stop: int, kind: Kind) -> _Layouts:
        if kind == "picture":
            alone = self._aspects[:, start : stop if stop - start == 1 else start]
            return _Layouts(alone, np.ones_like(alone))
        none = self._aspects[:, :0]
        joined = [
            _join(kind, self._any(start, cut, _heads(kind)), self._any(cut, stop, _KINDS))
            for cut in range(start + 1, stop)
        ]
        return _together([_Layouts(none, none), *joined])

    def _tree(self, start: int, stop: int, kinds: Sequence[Kind], index: int) -> Tree:
        """The tree behind place ``index`` of ``_any``: the way it was made, backwards."""
        for kind in kinds:
            count = self._of_kind(start, stop, kind).trees
            if index < count:
                return start if kind == "picture" else self._split(start, stop, kind, index)
            index -= count
        raise IndexError(index)

    def _split(self, start: int, stop: int, kind: Literal["row", "column"], index: int) -> Split:
        for cut in range(start + 1, stop):
            tails = self._any(cut, stop, _KINDS).trees
            count = self._any(start, cut, _heads(kind)).trees * tails
            if index < count:
                head = self._tree(start, cut, _heads(kind), index // tails)
                tail = self._tree(cut, stop, _KINDS, index % tails)
                if isinstance(tail, Split) and tail.kind == kind:
                    return Split(kind, (head, *tail.parts))
                return Split(kind, (head, tail))
            index -= count
        raise IndexError(index)


class _Layouts(NamedTuple):
    """Trees of the same pictures in every group, (groups, trees).

    Of each the aspect, and the share of its smallest picture.
    """

    aspects: Floats
    shares: Floats

    @property
    def trees(self) -> int:
        return self.aspects.shape[1]


def _heads(kind: Kind) -> tuple[Kind, ...]:
    # A row that begins with a row is the longer row, which is made from its first part anyway.
    return tuple(other for other in _KINDS if other != kind)


def _together(several: list[_Layouts]) -> _Layouts:
    return _Layouts(
        np.concatenate([each.aspects for each in several], axis=1),
        np.concatenate([each.shares for each in several], axis=1),
    )


def _join(kind: Kind, heads: _Layouts, tails: _Layouts) -> _Layouts:
    """Every head with every tail, in a row or a column."""
    if kind == "column":
        return _turned(_join("row", _turned(heads), _turned(tails)))
    aspects = heads.aspects[:, :, None] + tails.aspects[:, None, :]
    # At height 1 the aspect is the area.
    own = (heads.shares * heads.aspects)[:, :, None], (tails.shares * tails.aspects)[:, None, :]
    shares = np.minimum(*own) / aspects
    groups = len(aspects)
    return _Layouts(aspects.reshape(groups, -1), shares.reshape(groups, -1))


def _turned(layouts: _Layouts) -> _Layouts:
    return _Layouts(1 / layouts.aspects, layouts.shares)
