"""Regions of interest: the part of a picture that its mask marks."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..boxes import Box
from ..geometry import MIN_SIDE, Size
from ..masks import check_mask_aspect, is_empty, single_mask

MARGIN = 1 / 16
"""Around what is marked, on every side, as a share of its longer side."""

MAX_ASPECT = 4
"""A longer region is widened by what lies beside it: a thin strip would starve in a composite."""

_Places = np.ndarray[tuple[int, ...], np.dtype[np.intp]]


def region_of(number: int, mask: torch.Tensor, size: Size) -> Box | None:
    """What ``mask`` marks in picture ``number`` of ``size``, with its margin; None for nothing.

    The mask is (H, W) or (1, H, W), floating point in 0..1, of any size in the picture's aspect. A
    pixel counts from half of the mask's largest value on, so that a soft edge does not decide and a
    faint brush is not lost. An empty mask may have any shape: ComfyUI gives one of 64 x 64 with a
    picture without transparency. Raises ``InputError`` for any other mask.
    """
    name, picture = f"mask_{number}", f"image {number}"
    values = single_mask(name, mask)
    if is_empty(values):
        return None
    check_mask_aspect(name, values, picture, size)
    peak = float(values.max())
    marked = (values >= peak / 2).numpy()
    across = _span(np.flatnonzero(marked.any(axis=0)), marked.shape[1], size.width)
    down = _span(np.flatnonzero(marked.any(axis=1)), marked.shape[0], size.height)
    return _widened(across, down, size)


_Span = tuple[int, int]
"""Along one side of a picture: the first pixel, and the first beyond."""


def _span(places: _Places, cells: int, length: int) -> _Span:
    """From the first to the last of ``places`` among ``cells``, on a side of ``length`` pixels."""
    scale = length / cells
    first, last = int(places.min()), int(places.max())
    return math.floor(first * scale), min(length, math.ceil((last + 1) * scale))


def _widened(across: _Span, down: _Span, size: Size) -> Box:
    """With its margin, and no longer than ``MAX_ASPECT`` where the picture has more beside it."""
    sides = [stop - start for start, stop in (across, down)]
    margin = 2 * math.ceil(MARGIN * max(sides))
    width, height = min(sides[0] + margin, size.width), min(sides[1] + margin, size.height)
    least = max(MIN_SIDE, math.ceil(max(width, height) / MAX_ASPECT))
    left, right = _about(across, max(width, least), size.width)
    top, bottom = _about(down, max(height, least), size.height)
    return Box(left, top, right, bottom)


def _about(span: _Span, wanted: int, length: int) -> _Span:
    """``wanted`` pixels with ``span`` in their middle, moved and cut to fit into ``length``."""
    wanted = min(wanted, length)
    start = (span[0] + span[1] - wanted) // 2
    start = max(0, min(start, length - wanted))
    return start, start + wanted
