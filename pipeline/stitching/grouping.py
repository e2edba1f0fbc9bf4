"""Which pictures share a composite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np

from .trees import ALIKE, BestTrees, Floats, Tree

ORDER_WORTH = 0.05
"""The part of the smallest picture that may go to keep neighbours together."""

_SPARE = 1
"""How much longer than need be a group may become: in a longer one each picture gets too little."""

_Numbers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Group(NamedTuple):
    """``pictures`` of one composite, ascending from 0; their ``tree`` counts them from 0 anew."""

    pictures: tuple[int, ...]
    tree: Tree


def divide(aspects: Sequence[float], count: int) -> list[Group]:
    """Pictures of ``aspects`` in ``count`` groups, in the order of their first pictures.

    First all aspects come within ``ASPECTS``, or as near as can be. Of the divisions that then give
    the smallest picture a share within ``ORDER_WORTH`` of the most possible, the one is taken that
    parts the fewest neighbours; of equals, the one of the largest share.
    """
    divisions = _divisions(len(aspects), count)
    excess, shares = _scores(np.array(aspects, np.float64), divisions, count)
    shares = np.where(excess <= excess.min() + ALIKE, shares, 0)
    parted = (np.diff(divisions, axis=1) != 0).sum(axis=1)
    parted = np.where(shares >= shares.max() * (1 - ORDER_WORTH), parted, len(aspects))
    shares = np.where(parted == parted.min(), np.round(shares, 9), 0)
    chosen = divisions[shares.argmax()]
    return [_group(aspects, np.flatnonzero(chosen == group).tolist()) for group in range(count)]


def _group(aspects: Sequence[float], pictures: list[int]) -> Group:
    best = BestTrees(np.array([[aspects[picture] for picture in pictures]], np.float64))
    return Group(tuple(pictures), best.tree(0))


def _divisions(pictures: int, count: int) -> _Numbers:
    """(divisions, pictures): the group of each picture, groups numbered as they first appear."""
    every = np.arange(count ** (pictures - 1))[:, None]
    groups = every // count ** np.arange(pictures - 1)[::-1] % count
    groups = np.pad(groups, ((0, 0), (1, 0)))
    before = np.maximum.accumulate(groups, axis=1)
    in_turn = (np.diff(before, axis=1) <= 1).all(axis=1) & (before[:, -1] == count - 1)
    found: _Numbers = groups[in_turn]
    return found


def _scores(aspects: Floats, divisions: _Numbers, count: int) -> tuple[Floats, Floats]:
    """Of each division the largest excess and the smallest share, both as in ``BestTrees``."""
    excess = np.full(2 ** len(aspects), np.inf)
    shares = np.zeros(2 ** len(aspects))
    longest = math.ceil(len(aspects) / count) + _SPARE
    for length in range(1, min(longest, len(aspects)) + 1):
        members = np.array(list(combinations(range(len(aspects)), length)))
        best = BestTrees(aspects[members])
        places = (1 << members).sum(axis=1)
        excess[places], shares[places] = best.excess, best.shares
    bits = 1 << np.arange(len(aspects))
    places = np.stack([(divisions == group) @ bits for group in range(count)], axis=1)
    return excess[places].max(axis=1), shares[places].min(axis=1)
