"""The change of colour that an edit made where it should have made none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch

from ..geometry import Size
from .cropping import Region
from .masks import Alpha, dilated
from .resampling import means

Values: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Ring: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

_SIDE = 128
"""The longest side at which colours are compared: noise and small shifts average out."""

_NEAR = _SIDE // 8
"""The width of the ring around the mask that is compared."""

_ENOUGH = 64
"""Pixels of a ring that say something."""

_PRIOR = 0.03**2
"""Contrast (as variance) at which half of a change of gain is believed: a flat ring has none."""

_GAIN = (0.8, 1.25)
_ROUNDS = 6
_NOISE = 1 / 255
_DISTURBED = 12 / 255
"""A ring that a change of colour explains no better than this has got other content."""

_MEANT = 48 / 255
"""Whoever changes the ring more than this means it."""


@dataclass(frozen=True)
class Correction:
    """``gain`` and ``offset`` of each channel, and their mean effect ``shift`` on the ring."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    shift: tuple[float, ...]

    def applied(self, picture: torch.Tensor) -> torch.Tensor:
        """(H, W, 3) float32 with the change undone; the very tensor where there was none."""
        if not any(self.offset) and set(self.gain) == {1.0}:
            return picture
        return picture * torch.tensor(self.gain) + torch.tensor(self.offset)

    def __str__(self) -> str:
        if max(map(abs, self.shift)) < 0.05 / 255 and max(self.gain) - 1 < 0.001 > 1 - min(
            self.gain
        ):
            return "the colour around the mask is unchanged"
        words = (
            f"{name} {255 * shift:+.1f}" for name, shift in zip("RGB", self.shift, strict=True)
        )
        return f"colour matched: {' '.join(words)} of 255"


def match_colour(edited: torch.Tensor, region: Region) -> tuple[torch.Tensor, str]:
    """``edited`` in the colours that the crop has around the mask, and what was done in words.

    ``edited`` is (h, w, 3) float32 in the crop's aspect. Robust to a ring of which less than half
    got other content; an unchanged ring changes nothing at all.
    """
    ring = torch.from_numpy(_ring(region))
    if ring.sum() < _ENOUGH:
        return edited, "colour not matched: the crop shows too little around the mask"
    size = Size.of(ring.shape)
    after, before = (
        means(picture, size)[ring].numpy().astype(np.float64) for picture in (edited, region.crop)
    )
    correction = _fit(after, before)
    if correction is None:
        return edited, "colour not matched: the edit changed what surrounds the mask too"
    return correction.applied(edited), str(correction)


def _ring(region: Region) -> Ring:
    """Which pixels, of the crop made small, lie beside the mask and inside the picture."""
    size = region.frame.size
    shrink = max(1.0, max(size.width, size.height) / _SIDE)
    small = Size(round(size.width / shrink), round(size.height / shrink))
    touched = _touched(region, small)
    near: Ring = (touched == 0) & (dilated(touched, _NEAR) > 0)
    return near & _inside(region, small)


def _touched(region: Region, small: Size) -> Alpha:
    """The greatest alpha of what each pixel of the small crop is made of."""
    frame, bounds = region.frame, region.frame.inside(region.mask.bounds)
    down, rows = _cells(bounds.top, bounds.bottom, frame.height / small.height)
    across, columns = _cells(bounds.left, bounds.right, frame.width / small.width)
    greatest = np.stack([region.mask.alpha[cell].max(axis=0) for cell in rows])
    touched: Alpha = np.zeros((small.height, small.width), np.uint8)
    touched[down, across] = np.stack([greatest[:, cell].max(axis=1) for cell in columns], axis=1)
    return touched


def _inside(region: Region, small: Size) -> Ring:
    """Which pixels of the small crop end before the picture does."""
    down = np.arange(1, small.height + 1) * region.frame.height / small.height
    across = np.arange(1, small.width + 1) * region.frame.width / small.width
    inside: Ring = np.outer(down <= region.shown.height + 1e-6, across <= region.shown.width + 1e-6)
    return inside


def _cells(first: int, end: int, pixels: float) -> tuple[slice, list[slice]]:
    """The cells, ``pixels`` long, that ``first`` to ``end`` touch, and what is in each of them."""
    cells = range(int(first / pixels), math.ceil(end / pixels - 1e-9))
    starts = [max(0, int(cell * pixels) - first) for cell in (*cells, cells.stop)]
    return slice(cells.start, cells.stop), [
        slice(start, max(start + 1, after)) for start, after in pairwise(starts)
    ]


def _fit(after: Values, before: Values) -> Correction | None:
    """What takes ``after`` to ``before``, (N, 3) each; None where that is no change of colour."""
    gain: Values = np.ones(3)
    offset: Values = np.median(before - after, axis=0)
    for _ in range(_ROUNDS):
        errors = np.abs(before - after * gain - offset).max(axis=1)
        kept = errors <= max(_NOISE, 2.5 * float(np.median(errors)))
        gain, offset = _least_squares(after[kept], before[kept])
    errors = np.abs(before - after * gain - offset).max(axis=1)
    shift = (after[kept] * (gain - 1) + offset).mean(axis=0)
    if np.median(errors) > _DISTURBED or np.abs(shift).max() > _MEANT:
        return None
    return Correction(_numbers(gain), _numbers(offset), _numbers(shift))


def _least_squares(after: Values, before: Values) -> tuple[Values, Values]:
    """Gain, drawn towards 1, and offset of each channel."""
    middle, target = after.mean(axis=0), before.mean(axis=0)
    centred = after - middle
    shared = (centred * (before - target)).mean(axis=0)
    gain = np.clip((shared + _PRIOR) / ((centred**2).mean(axis=0) + _PRIOR), *_GAIN)
    return gain, target - gain * middle


def _numbers(values: Values) -> tuple[float, ...]:
    return tuple(values.tolist())
