"""A change of tone, such as day to night, taken out: it would be read as a shift of soft edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .features import Level
from .motion import common, moved_back
from .refining import Fit

_STEPS = 32
_LEAST_PIXELS = 30
_TRUSTED = 0.25
_STRAIGHT = 0.5 / 255
"""A tone curve that bends by less than this is a gain and an offset, which a fit finds itself."""


def same_tone(level: Level, fit: Fit) -> Level | None:
    """``level`` with `before` in the tones of `after`; None where they differ in no curve.

    The curve is the mean of `after` for each lightness of `before`, where ``fit`` is trusted.
    """
    trust = fit.agreement.trust(level.weight.shape) * common(level.weight, fit.motion)
    counted = trust > _TRUSTED
    old, new = level.before[counted], moved_back(level.after, fit.motion)[counted]
    step = np.clip(old * _STEPS, 0, _STEPS - 1).astype(np.intp)
    count = np.bincount(step, minlength=_STEPS)
    used = count >= _LEAST_PIXELS
    if used.sum() < 3:
        return None
    x = np.bincount(step, old, _STEPS)[used] / count[used]
    y = np.bincount(step, new, _STEPS)[used] / count[used]
    strength = np.sqrt(count[used])
    straight = np.polyval(np.polyfit(x, y, 1, w=strength), x)
    if np.average(np.abs(y - straight), weights=count[used]) < _STRAIGHT:
        return None
    return replace(level, before=np.interp(level.before, x, y).astype(np.float32))
