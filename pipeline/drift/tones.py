"""A change of tone, such as day to night, taken out: it would be read as a shift of soft edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .features import Level
from .motion import common, moved_back
from .refining import Fit

_STEPS = 32
_LEAST_PIXELS = 30
_TRUSTED = 0.25
_STRAIGHT = 0.5 / 255
"""A curve that bends by less than this is a gain and an offset, which a fit finds itself."""


@dataclass(frozen=True)
class Tones:
    """A curve through points: lightness of `before` to that of `after`, both in 0..1."""

    before: np.ndarray
    after: np.ndarray

    def given_to(self, level: Level) -> Level:
        """``level`` with `before` in the tones of `after`."""
        toned = np.interp(level.before, self.before, self.after)
        return replace(level, before=toned.astype(np.float32))


def change_of_tone(level: Level, fit: Fit) -> Tones | None:
    """The mean of `after` for each lightness of `before`, where ``fit`` is trusted.

    None where that is a straight line, or there is too little to tell.
    """
    trust = fit.agreement.trust(level.weight.shape) * common(level.weight, fit.motion)
    counted = trust > _TRUSTED
    old, new = level.before[counted], moved_back(level.after, fit.motion)[counted]
    step = np.clip(old * _STEPS, 0, _STEPS - 1).astype(np.intp)
    count = np.bincount(step, minlength=_STEPS)
    used = count >= _LEAST_PIXELS
    if used.sum() < 3:
        return None
    count = count[used]
    before, after = (np.bincount(step, each, _STEPS)[used] / count for each in (old, new))
    line = np.polyval(np.polyfit(before, after, 1, w=np.sqrt(count)), before)
    bend = float(np.average(np.abs(after - line), weights=count))
    return Tones(before, after) if bend > _STRAIGHT else None
