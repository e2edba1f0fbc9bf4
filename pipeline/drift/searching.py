"""Where a motion may be: phase correlation at the coarsest level, over a range of scales."""

from __future__ import annotations

import math

import numpy as np

from .features import Level
from .motion import Array, Motion, moved_back

SCALES = [math.exp(0.012 * step) for step in range(-14, 15)]
"""0.85..1.18."""

FARTHEST = 1 / 3
"""Of width and height."""

_PEAKS = 3
_SOFT = 0.03
"""Of each side: a wider one would hide what an edit left at the border."""

_SMOOTHING = 0.6
"""Pixels; keeps a peak between pixels from falling apart."""


def candidates(level: Level, count: int) -> list[Motion]:
    """The ``count`` likeliest motions, apart from each other, the likeliest first."""
    pair = level.structure(Motion())
    window = np.outer(*map(_window, pair.weight.shape))
    before = np.conj(np.fft.rfft2(pair.before * window))
    found: list[tuple[float, Motion]] = []
    for scale in SCALES:
        after = moved_back(pair.after, Motion(scale=scale))
        spectrum = before * np.fft.rfft2(after * window)
        found += _peaks(_phase_correlation(spectrum, pair.after.shape), scale)
    kept: list[Motion] = []
    for _, motion in sorted(found, key=lambda pair: -pair[0]):
        if len(kept) < count and all(_apart(motion, other, pair.after.shape) for other in kept):
            kept.append(motion)
    return kept


def _window(side: int) -> Array:
    """1, but softly down to 0 at both ends: a hard edge is a structure that never moves."""
    soft = max(1, round(_SOFT * side))
    rise = np.sin(math.pi / 2 * (np.arange(soft) + 0.5) / soft) ** 2
    return np.concatenate([rise, np.ones(side - 2 * soft), rise[::-1]]).astype(np.float32)


def _phase_correlation(spectrum: np.ndarray, shape: tuple[int, ...]) -> Array:
    down, across = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    soft = np.exp(-2 * (math.pi * _SMOOTHING) ** 2 * (down**2 + across**2))
    size = np.abs(spectrum)
    phases = spectrum / (size + 0.01 * size.mean() + 1e-12)
    return np.fft.irfft2(phases * soft, shape).astype(np.float32)


def _peaks(surface: Array, scale: float) -> list[tuple[float, Motion]]:
    height, width = surface.shape
    down, across = int(height * FARTHEST), int(width * FARTHEST)
    near = np.roll(surface, (down, across), (0, 1))[: 2 * down + 1, : 2 * across + 1]
    peaks = []
    for _ in range(_PEAKS):
        row, column = (int(each) for each in np.unravel_index(near.argmax(), near.shape))
        x, y = (column - across) * scale, (row - down) * scale
        peaks.append((float(near[row, column]), Motion(x / width, y / height, scale)))
        near[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -1
    return peaks


def _apart(one: Motion, other: Motion, shape: tuple[int, ...]) -> bool:
    far = max(abs(one.x - other.x) * shape[1], abs(one.y - other.y) * shape[0])
    return far > 2.5 or abs(math.log(one.scale / other.scale)) > 0.03
