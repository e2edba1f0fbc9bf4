"""Shift, scale and colour of one picture against another, and the way back.

Both are compared at no more than ``WORKING_AREA`` pixels: coarse to fine, first by phase
correlation, then by least squares on intensities. Fine structure decides where things are, so that
a change of light does not; colours are compared where the structure was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..geometry import MIN_SIDE, Size
from .colour import mean_change, mean_delta_e
from .features import Level, levels, luma, reduced, reduced_weight
from .judging import FLAT, doubt, is_flat, is_hopeless
from .motion import Array, Motion, common, moved_back
from .refining import Fit, refine, settle
from .searching import candidates
from .tones import Tones, change_of_tone

WORKING_AREA = 1024 * 1024
MASKED_FROM = 0.05
"""A pixel counts as meant to change from this value of the mask on."""

_CANDIDATES = 8
_TONED_AREA = 300_000
_BETTER = 0.01
_SAME = 1e-4
"""Of the whole range: pictures that differ by less are one picture."""

_STILL = 5e-4
"""Pixels: rounding alone moves a picture by as much."""

_UNSEEN = 0.02
"""Pixels: resampling would change a picture more than a drift below this."""


@dataclass(frozen=True)
class Drift:
    """How `after` lies against `before`, wherever nothing was meant to change.

    ``shift`` is right and down at the picture's centre, in pixels of `before`; ``scale`` 1.01 is
    zoomed in by 1 percent. Both are NaN where they cannot be told, and ``unmeasured`` says why.
    ``colour`` is the mean change of R, G and B in 1/255, ``delta_e`` the mean CIE 1976 difference.
    ``agreement`` is the share of the textured picture that fits shift and scale, ``area`` the share
    of the whole picture that was compared; both 0..1.
    """

    shift: tuple[float, float]
    scale: float
    colour: tuple[float, float, float]
    delta_e: float
    agreement: float
    area: float
    unmeasured: str = ""


def measure(before: Array, after: Array, mask: np.ndarray | None = None) -> Drift:
    """Compare two (H, W, 3) float32 pictures in 0..1 of the same size.

    ``mask`` (H, W) in 0..1 is what was meant to change; None is nothing. Raises ``InputError``
    where it leaves nothing to compare, and for a side below ``MIN_SIDE``.
    """
    size = Size.of(before.shape)
    if min(size.width, size.height) < MIN_SIDE:
        raise InputError(f"before is {size} pixels.", f"Both sides must be {MIN_SIDE} or more.")
    old, new = _working_planes(before), _working_planes(after)
    weight = _working_weight(old[0].shape, mask)
    fit, unmeasured = _find(luma(old), luma(new), weight)
    motion, away = fit.motion, fit.motion.reach(size.width, size.height)
    undone = Motion() if unmeasured or away < _UNSEEN else motion
    compared = common(weight, undone) > 0
    wanted = np.stack([plane[compared] for plane in old])
    found = np.stack([moved_back(plane, undone)[compared] for plane in new])
    shift = motion.x * size.width, motion.y * size.height
    return Drift(
        shift=(math.nan, math.nan) if unmeasured else shift,
        scale=math.nan if unmeasured else motion.scale,
        colour=mean_change(wanted, found),
        delta_e=mean_delta_e(wanted, found),
        agreement=0.0 if unmeasured else fit.agreement.share,
        area=float(compared.mean()),
        unmeasured=unmeasured,
    )


def align(after: Array, drift: Drift) -> Array:
    """``after`` (H, W, 3) with shift and scale undone in one resampling, its edges repeated.

    Colours are left alone. What has not moved, or not measurably, comes back as it is.
    """
    height, width = after.shape[:2]
    motion = Motion(drift.shift[0] / width, drift.shift[1] / height, drift.scale)
    if drift.unmeasured or motion.reach(width, height) < _UNSEEN:
        return after
    return np.clip(moved_back(after, motion), 0, 1)


def _find(before: Array, after: Array, weight: Array) -> tuple[Fit, str]:
    """The motion between two lightnesses, and why it is to be doubted, if it is."""
    pyramid = levels(before, after, weight)
    if (np.abs(after - before) * weight).max() < _SAME:
        *_, level = pyramid
        fit = refine(level, Motion(), steps=0)
        return fit, FLAT if is_flat(fit.agreement) else ""
    fit = _refined(pyramid)
    if fit.motion.reach(before.shape[1], before.shape[0]) < _STILL:
        fit = replace(fit, motion=Motion())
    return fit, doubt(fit)


def _refined(pyramid: Iterator[Level]) -> Fit:
    """The likeliest motion at the coarsest level, made exact level by level."""
    level = next(pyramid)
    fit, tones = _toned(level, settle(level, _likeliest(level)))
    for level in pyramid:
        if is_hopeless(fit.agreement):
            break
        level = tones.given_to(level) if tones else level
        fit = settle(level, fit.motion)
        if not tones and level.before.size <= _TONED_AREA:
            fit, tones = _toned(level, fit)
    return fit


def _toned(level: Level, fit: Fit) -> tuple[Fit, Tones | None]:
    """``fit``, or a better one where a change of tone explains more."""
    if tones := change_of_tone(level, fit):
        again = settle(tones.given_to(level), fit.motion)
        if again.agreement.score > fit.agreement.score + _BETTER:
            return again, tones
    return fit, None


def _likeliest(level: Level) -> Motion:
    fits = [refine(level, start) for start in [Motion(), *candidates(level, _CANDIDATES)]]
    # Of equals the first: no motion at all comes before any other.
    return max(fits, key=lambda fit: round(fit.agreement.score, 3)).motion


def _working_planes(picture: Array) -> list[Array]:
    return [reduced(_plane(picture, channel), WORKING_AREA) for channel in range(3)]


def _plane(picture: Array, channel: int) -> Array:
    return np.ascontiguousarray(picture[..., channel], dtype=np.float32)


def _working_weight(shape: tuple[int, ...], mask: np.ndarray | None) -> Array:
    if mask is None:
        return np.ones(shape, np.float32)
    kept = (mask < MASKED_FROM).astype(np.float32)
    weight = reduced_weight(kept, WORKING_AREA)
    if not weight.any():
        raise InputError("The mask covers the whole picture.", "Leave out what should stay.")
    return weight
