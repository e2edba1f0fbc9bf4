"""Which pixels of the picture an edit replaces, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageFilter

from ..boxes import Box
from ..errors import InputError
from ..geometry import Size
from ..masks import FAINTEST, check_mask_aspect, is_empty, single_mask
from .resampling import to_bytes

Alpha: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""(H, W) uint8, 0 where the picture stays and 255 where it is replaced wholly."""

_EMPTY = ("The mask is empty.", "Paint over what the edit may change.")

_EASED = [round(255 * (x * x * (3 - 2 * x))) for x in (step / 255 for step in range(256))]
"""A straight ramp to one that starts and ends gently, where the eye would find a kink."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A mask without the zeros around it: ``alpha`` lies at ``bounds`` of the picture."""

    alpha: Alpha
    bounds: Box

    def laid_on(self, picture: Size) -> torch.Tensor:
        """The mask as (H, W) float32 in 0..1 of the whole picture."""
        # NumPy's zeros take no time before they are read.
        mask = np.zeros((picture.height, picture.width), np.float32)
        np.divide(self.alpha, np.float32(255), out=mask[self.bounds.slices])
        return torch.from_numpy(mask)


def read_mask(mask: torch.Tensor, picture: Size) -> Patch:
    """What is painted in ``mask``, (H, W) or (1, H, W) in 0..1, at the picture's size.

    Raises ``InputError`` for a mask that is empty, holds NaN, has another aspect than the picture,
    or is several.
    """
    values = single_mask("mask", mask)
    if is_empty(values):
        raise InputError(*_EMPTY)
    check_mask_aspect("mask", values, "image", picture)
    if Size.of(values.shape) == picture:
        return _painted(values)
    alpha = _scaled(values, picture)
    if not alpha.any():
        raise InputError(*_EMPTY)
    return _trimmed(alpha, 0, 0)


def spread(patch: Patch, grow: int, feather: int, picture: Size) -> Patch:
    """``patch`` grown by ``grow`` pixels, then fading out over ``feather`` pixels more.

    What was painted keeps at least its own alpha. Nothing is reached beyond grow + feather pixels
    in a row or column. Both 0: the patch itself.
    """
    if not grow + feather:
        return patch
    bounds = patch.bounds.grown(grow + feather, picture)
    alpha = np.zeros((bounds.height, bounds.width), np.uint8)
    alpha[patch.bounds.moved(-bounds.left, -bounds.top).slices] = patch.alpha
    grown = dilated(alpha, grow)
    if not feather:
        return _trimmed(grown, bounds.left, bounds.top)
    # The blur reaches as far inward as the second growth went outward.
    ramp = Image.fromarray(dilated(grown, feather // 2)).filter(ImageFilter.BoxBlur(feather / 2))
    # A square blur takes a little from what is grown round; that is given back.
    return _trimmed(np.maximum(np.asarray(ramp.point(_EASED)), grown), bounds.left, bounds.top)


def _scaled(values: torch.Tensor, picture: Size) -> Alpha:
    mask = Image.fromarray(to_bytes(values).numpy())
    scaled = mask.resize((picture.width, picture.height), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def _painted(values: torch.Tensor) -> Patch:
    rows, columns = ((values.amax(dim=side) >= FAINTEST).numpy() for side in (1, 0))
    bounds = _bounds(rows, columns)
    return Patch(to_bytes(values[bounds.slices]).numpy(), bounds)


def _trimmed(alpha: Alpha, left: int, top: int) -> Patch:
    bounds = _bounds(alpha.max(axis=1) > 0, alpha.max(axis=0) > 0)
    return Patch(alpha[bounds.slices], bounds.moved(left, top))


def _bounds(rows: np.ndarray, columns: np.ndarray) -> Box:
    (y,), (x,) = rows.nonzero(), columns.nonzero()
    return Box(int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1)


def dilated(alpha: Alpha, radius: int) -> Alpha:
    """The greatest alpha within an octagon of ``radius`` around each pixel."""
    if not radius:
        return alpha
    # Two slanted lines reach every other pixel only; the square beside them fills the rest.
    slant = min(round(radius * 0.293), (radius - 1) // 2)
    straight = radius - 2 * slant
    alpha = np.pad(alpha, radius)
    for down, right, half in ((0, 1, straight), (1, 0, straight), (1, 1, slant), (1, -1, slant)):
        alpha = _swept(alpha, down, right, 2 * half)
    return alpha


def _swept(alpha: Alpha, down: int, right: int, steps: int) -> Alpha:
    """The greatest alpha of ``steps`` steps in one direction, in as few passes as doubling takes.

    The result is smaller by the way that was gone.
    """
    done = 0
    while done < steps:
        step = min(done + 1, steps - done)
        alpha = _greater_of_two(alpha, down * step, right * step)
        done += step
    return alpha


def _greater_of_two(alpha: Alpha, down: int, right: int) -> Alpha:
    height, width = alpha.shape
    near, far = slice(0, width - abs(right)), slice(abs(right), width)
    first, second = (near, far) if right >= 0 else (far, near)
    return np.maximum(alpha[: height - down, first], alpha[down:, second])
