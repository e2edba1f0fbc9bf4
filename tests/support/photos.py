"""A real photograph in any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from firered_edit.pipeline.images import Pixels


def photograph(width: int, height: int) -> Pixels:
    """A portrait of 512 x 512 pixels, laid out with its mirror images to ``width`` x ``height``.

    Not enlarged: fine detail is what resampling loses.
    """
    portrait = data.astronaut()
    missing = (max(0, height - portrait.shape[0]), max(0, width - portrait.shape[1]))
    laid = np.pad(portrait, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    if (laid.shape[1], laid.shape[0]) == (width, height):
        return laid
    scale = max(width / laid.shape[1], height / laid.shape[0])
    box = (0, 0, width / scale, height / scale)
    picture = Image.fromarray(laid).resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(picture)
