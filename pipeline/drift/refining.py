"""A motion made exact: Gauss-Newton on intensities (inverse-compositional Lucas-Kanade).

Each step solves, over all pixels at once, for a small shift and zoom, a gain and an offset. What
does not fit counts less: a pixel by its own error, and a tile by how well it agrees as a whole, so
that edited areas are outvoted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .features import Level, Structure
from .motion import Array, Motion, moved_back
from .tiles import Agreement, agreement

_STEPS = 6
_ROUNDS = 10
_FEW_ROUNDS = 3
_SMALL = 50_000
"""Pixels; up to here the edge is much of the picture, and what it hides moves the rest."""

_SETTLED = 0.005
_ENOUGH = 1e-4
"""Both in pixels: a round, and a step, that moves nothing farther than this is the last."""

_LONGEST_STEP = 0.05
_LEAST_GAIN = 0.05
_LEAST_TRUST = 0.05
_LEAST_SPREAD = 0.5 / 255
_NEAR = 0.1
"""Pixels: an error that so small a shift explains is no sign of an edit."""

_SINGULAR = 1e8


@dataclass(frozen=True)
class Fit:
    """A motion, what both pictures show once it is undone, and how well that agrees.

    ``moved`` is how far the motion lies from where it was looked for, in pixels.
    """

    motion: Motion
    moved: float
    structure: Structure
    agreement: Agreement


def settle(level: Level, motion: Motion) -> Fit:
    """As ``refine``, again from where it ended, until it stays there.

    What both pictures show depends on the motion, and their local mean on what they show.
    """
    fit = refine(level, motion)
    rounds = _ROUNDS if level.before.size <= _SMALL else _FEW_ROUNDS
    for _ in range(rounds - 1):
        if fit.moved < _SETTLED:
            break
        fit = refine(level, fit.motion)
    return fit


def refine(level: Level, motion: Motion, steps: int = _STEPS) -> Fit:
    """The motion that fits best near ``motion``."""
    start = level.structure(motion)
    height, width = start.before.shape
    columns = _columns(start.before)
    small = Motion()
    for _ in range(steps):
        step = _step(columns, _undone(start, small))
        if step is None:
            break
        small = small.then(step.inverse())
        if step.reach(width, height) < _ENOUGH:
            break
    end = _undone(start, small)
    agreed = agreement(end.before, end.after, end.weight)
    return Fit(motion.then(small), small.reach(width, height), end, agreed)


def _undone(start: Structure, small: Motion) -> Structure:
    return replace(start, after=moved_back(start.after, small))


def _columns(before: Array) -> Array:
    """What a gain, a shift, a zoom and an offset each change in ``before``: (5, pixels)."""
    height, width = before.shape
    down, across = np.gradient(before)
    down, across = down * height, across * width
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    zoom = across * x + down * y[:, None]
    return np.stack([before, across, down, zoom, np.ones_like(before)]).reshape(5, -1)


def _weights(pair: Structure) -> Array:
    tiles = agreement(pair.before, pair.after, pair.weight)
    weight = pair.weight * tiles.trust(pair.weight.shape)
    power = float((weight * pair.before**2).sum())
    if power <= 0:
        return weight
    gain = float((weight * pair.before * pair.after).sum()) / power
    error = pair.after - gain * pair.before
    typical = np.abs(error[weight > _LEAST_TRUST][::5])
    spread = 1.4826 * float(np.median(typical)) if typical.size else 0.0
    down, across = np.gradient(pair.before)
    expected = max(spread, _LEAST_SPREAD) ** 2 + (_NEAR * gain) ** 2 * (down**2 + across**2)
    return np.asarray(weight / (1 + error**2 / (4 * expected)) ** 2, dtype=np.float32)


def _step(columns: Array, pair: Structure) -> Motion | None:
    """By how much `before` lies off by least squares; None where that is not decided."""
    weighted = columns * _weights(pair).ravel()
    matrix = (weighted @ columns.T).astype(np.float64)
    size = np.sqrt(np.diag(matrix))
    if size.min() <= 0:
        return None
    matrix /= np.outer(size, size)
    if np.linalg.cond(matrix) > _SINGULAR:
        return None
    gain, *moved, _ = np.linalg.solve(matrix, (weighted @ pair.after.ravel()) / size) / size
    if gain < _LEAST_GAIN:
        return None
    x, y, zoom = (float(np.clip(each / gain, -_LONGEST_STEP, _LONGEST_STEP)) for each in moved)
    return Motion(x, y, math.exp(zoom))
