"""A real photograph in any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from firered_edit.pipeline.images import Pixels

_SIDE = 512


def photograph(width: int, height: int) -> Pixels:
    """A portrait of 512 x 512 pixels: its middle scaled down, or a mosaic of it.

    Not enlarged, for fine detail is what resampling loses; and every piece of the mosaic is turned
    and rolled its own way, for what repeats itself looks the same in several places.
    """
    rows, columns = -(-height // _SIDE), -(-width // _SIDE)
    if rows == columns == 1:
        return _scaled(data.astronaut(), width, height)
    rng = np.random.default_rng(0)
    mosaic = [np.concatenate([_piece(rng) for _ in range(columns)], axis=1) for _ in range(rows)]
    return np.concatenate(mosaic)[:height, :width]


def _piece(rng: np.random.Generator) -> Pixels:
    down, right = (int(step) for step in rng.integers(0, _SIDE, 2))
    return np.rot90(np.roll(data.astronaut(), (down, right), (0, 1)), int(rng.integers(4)))


def _scaled(portrait: Pixels, width: int, height: int) -> Pixels:
    scale = max(width, height) / _SIDE
    left, top = (_SIDE - width / scale) / 2, (_SIDE - height / scale) / 2
    box = (left, top, left + width / scale, top + height / scale)
    picture = Image.fromarray(portrait).resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(picture)
