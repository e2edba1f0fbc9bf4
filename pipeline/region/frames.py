"""Where the crop lies: which part of the picture is edited, and at which size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..boxes import Box
from ..geometry import CELL, MAX_ASPECT, MEGAPIXEL, NEAR, Size, scale_to_area

MAX_ENLARGEMENT = 4
"""A crop shows so much of the picture that it need not be enlarged more than this."""

BEGUN = 1_000_000
"""Pixels of a megapixel to who bills them. A crop of 1024x1024 would be billed as two."""

GENTLE_ASPECT = 3
"""The longest crop that is made of a picture that has room for another."""


@dataclass(frozen=True)
class Frame:
    """A crop of ``size`` pixels that shows the picture from ``left``, ``top`` at ``scale``.

    ``scale`` is crop pixels per pixel of the picture. The box need not end on a whole pixel, and
    may end beyond a picture that is too small for it.
    """

    left: int
    top: int
    size: Size
    scale: float

    @property
    def width(self) -> float:
        return self.size.width / self.scale

    @property
    def height(self) -> float:
        return self.size.height / self.scale

    def inside(self, bounds: Box) -> Box:
        """``bounds`` of the picture, counted from the frame's corner."""
        return bounds.moved(-self.left, -self.top)


def find_frame(mask: Box, picture: Size, context: float, working_megapixels: float) -> Frame:
    """The frame of an edit of ``mask``: it contains the mask, and the picture contains it.

    The mask's sides times ``context``, at about ``working_megapixels``. It is moved rather than cut
    at the picture's edge, and ends beyond that edge only where the picture is too small.
    """
    area = working_megapixels * MEGAPIXEL
    wanted = _wanted(mask, picture, context, area / MAX_ENLARGEMENT**2)
    most = working_megapixels * BEGUN
    size, scale = _own_pixels(wanted, mask, picture, most), 1.0
    if not _runs_as_it_is(size, area) or _longer(size, MAX_ASPECT):
        size, scale = _rescaled(wanted, mask, picture, (area, most))
    left = _start(mask.left, mask.right, size.width / scale, picture.width)
    top = _start(mask.top, mask.bottom, size.height / scale, picture.height)
    return Frame(left, top, size, scale)


def _wanted(mask: Box, picture: Size, context: float, least_area: float) -> tuple[float, float]:
    """Sides of the part of the picture to show, no longer than the picture's."""
    width = min(mask.width * context, picture.width)
    height = min(mask.height * context, picture.height)
    width = min(max(width, height / GENTLE_ASPECT), picture.width)
    height = min(max(height, width / GENTLE_ASPECT), picture.height)
    growth = math.sqrt(max(1.0, least_area / (width * height)))
    width, height = min(width * growth, picture.width), min(height * growth, picture.height)
    # What one side could not grow, the other does.
    width = min(max(width, min(least_area / height, height * GENTLE_ASPECT)), picture.width)
    height = min(max(height, min(least_area / width, width * GENTLE_ASPECT)), picture.height)
    return width, height


def _own_pixels(wanted: tuple[float, float], mask: Box, picture: Size, most: float) -> Size:
    size = Size(
        _whole_cells(wanted[0], mask.width, picture.width),
        _whole_cells(wanted[1], mask.height, picture.height),
    )
    shrink = math.sqrt(most / size.area)
    less = Size(*(math.floor(side * shrink / CELL) * CELL for side in (size.width, size.height)))
    fits = less.width >= mask.width and less.height >= mask.height
    # A little less around the mask, where that is all it takes.
    return less if 1 - NEAR < shrink < 1 and fits else size


def _whole_cells(wanted: float, least: int, most: int) -> int:
    """``wanted`` rounded up to cells, or down where the picture would end before."""
    up = math.ceil(wanted / CELL - 1e-9) * CELL
    down = most // CELL * CELL
    return down if up > most and least <= down else up


def _rescaled(
    wanted: tuple[float, float], mask: Box, picture: Size, areas: tuple[float, float]
) -> tuple[Size, float]:
    """The crop of about the wanted area, and its scale, that comes closest to ``wanted``.

    ``areas`` are the one wanted and the most that is billed as such, in pixels.
    """
    area, most = areas

    def strangeness(size: Size) -> tuple[bool, bool, float, float]:
        scale = _scale(size, wanted, mask, picture)
        beyond = max(size.width / scale / picture.width, size.height / scale / picture.height, 1.0)
        shown = size.area / (scale * scale * wanted[0] * wanted[1])
        off = abs(math.log(size.area / area)) + abs(math.log(shown))
        return not _runs_as_it_is(size, area), size.area > most, round(beyond, 4), off

    size = min(_sizes(wanted[0] / wanted[1], area), key=strangeness)
    return size, _scale(size, wanted, mask, picture)


def _scale(size: Size, wanted: tuple[float, float], mask: Box, picture: Size) -> float:
    """Shows what is wanted, within the picture if that can be, and the whole mask in any case."""
    scale = math.sqrt(size.area / (wanted[0] * wanted[1]))
    scale = max(scale, size.width / picture.width, size.height / picture.height)
    return min(scale, size.width / mask.width, size.height / mask.height)


def _sizes(aspect: float, area: float) -> Iterable[Size]:
    """Whole cells of about ``area`` pixels in about ``aspect``, width to height."""
    aspect = min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)
    wanted = math.sqrt(area * aspect) / CELL
    for columns in range(max(1, math.floor(wanted * 0.94)), math.ceil(wanted * 1.06) + 1):
        for rows in (math.floor(columns / aspect), math.ceil(columns / aspect)):
            size = Size(columns * CELL, max(1, rows) * CELL)
            if not _longer(size, MAX_ASPECT):
                yield size


def _runs_as_it_is(size: Size, area: float) -> bool:
    """Whether an edit node that works at ``area`` takes the crop without scaling it."""
    return scale_to_area(size, area) == 1.0


def _longer(size: Size, aspect: float) -> bool:
    short, long = sorted((size.width, size.height))
    return long > aspect * short


def _start(first: int, end: int, side: float, most: int) -> int:
    """Where a box of ``side`` begins that has ``first`` to ``end`` in its middle."""
    centred = round((first + end - side) / 2)
    latest = math.floor(most - side + 1e-6)
    return max(0, math.ceil(end - side - 1e-6), min(centred, latest))
