"""Whether a motion was found, or only made up.

A true motion fits better than any other. A picture that repeats itself, or whose texture runs in
one direction, fits as well elsewhere; pictures that have nothing in common fit nowhere.
"""

from __future__ import annotations

import math

import numpy as np

from .motion import Array, Motion
from .refining import Fit
from .searching import FARTHEST, SCALES
from .tiles import TILE, Agreement, agreement

FLAT = "there is too little texture to follow"
REPEATS = "the texture repeats itself or runs in one direction"
UNLIKE = "the pictures have too little in common"

_LEAST_PIXELS = 64
_LEAST_SCORE = 0.15
_HOPELESS = 0.09
_LEAST_LEAD = 0.1
_LEAST_LEAD_SHARE = 0.2
_ALIKE = 0.6
"""The score from which a picture is like itself at another place."""

_STEP = 12
"""Pixels; farther than the fine structure of a picture hangs together."""

_PEAKS = 4
_LEAST_PEAK = 0.3
_BEYOND = 1.01
"""How far beyond what was searched a motion may settle."""


def doubt(fit: Fit) -> str:
    """Why ``fit`` says nothing about shift and scale; empty where it does."""
    if is_flat(fit.agreement):
        return FLAT
    pair, own = fit.structure, fit.agreement.score
    offsets = _offsets(pair.before)
    # A few tiles may agree by chance: the search takes the best of many motions.
    chance = 0.75 / math.sqrt(max(fit.agreement.pixels / TILE**2, 1.0))
    if own >= _LEAST_SCORE + chance and _searched(fit.motion):
        rival = max(_score(pair.before, pair.after, pair.weight, by) for by in offsets)
        if own - rival >= max(_LEAST_LEAD, _LEAST_LEAD_SHARE * own):
            return ""
    itself = max(_score(pair.before, pair.before, pair.weight, by) for by in offsets)
    return REPEATS if itself > _ALIKE else UNLIKE


def is_flat(agreement: Agreement) -> bool:
    return agreement.pixels < _LEAST_PIXELS


def is_hopeless(agreement: Agreement) -> bool:
    """Whether so little agrees that finer structure will not agree either."""
    return agreement.score < _HOPELESS


def _searched(motion: Motion) -> bool:
    near = max(abs(motion.x), abs(motion.y)) <= _BEYOND * FARTHEST
    return near and SCALES[0] / _BEYOND <= motion.scale <= SCALES[-1] * _BEYOND


def _score(one: Array, other: Array, weight: Array, by: tuple[int, int]) -> float:
    """How well two planes agree where one lies pixels right and down ``by`` off the other."""
    right, down = by
    y, x = _overlap(weight.shape[0], down), _overlap(weight.shape[1], right)
    here, there = (y[0], x[0]), (y[1], x[1])
    return agreement(one[here], other[there], weight[here] * weight[there]).score


def _overlap(side: int, by: int) -> tuple[slice, slice]:
    return slice(max(0, -by), side - max(0, by)), slice(max(0, by), side + min(0, by))


def _offsets(plane: Array) -> list[tuple[int, int]]:
    """Pixels right and down at which ``plane`` may look the same again."""
    step = min(_STEP, min(plane.shape) // 4)
    return [(step, 0), (0, step), (step, step), (step, -step), *_periods(plane)]


def _periods(plane: Array) -> list[tuple[int, int]]:
    """Where ``plane`` is most like itself: the highest peaks of its autocorrelation."""
    height, width = plane.shape
    alike = np.fft.irfft2(np.abs(np.fft.rfft2(plane)) ** 2, plane.shape)
    down, across = height // 3, width // 3
    # Half of all directions: the other half mirrors it. One more to each side, to tell a peak.
    near = np.roll(alike, (1, across + 1), (0, 1))[: down + 3, : 2 * across + 3]
    inner = near[1:-1, 1:-1]
    around = [
        near[1 + y : 1 + y + inner.shape[0], 1 + x : 1 + x + inner.shape[1]]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    peak = (inner >= np.maximum.reduce(around)) & (inner > _LEAST_PEAK * alike[0, 0])
    rows, columns = np.nonzero(peak)
    highest = np.argsort(-inner[rows, columns])
    found = [(int(columns[each]) - across, int(rows[each])) for each in highest]
    return [each for each in found if max(map(abs, each)) > 1][:_PEAKS]
