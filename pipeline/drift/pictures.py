"""IMAGE and MASK tensors as the arrays that are compared."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from ..geometry import Size
from ..images import finite, over_white
from ..masks import check_mask_aspect
from .measuring import MASKED_FROM
from .motion import Array


def to_picture(name: str, picture: torch.Tensor) -> Array:
    """(H, W, C) floating point on any device to (H, W, 3); transparency is laid over white."""
    values: Array = over_white(finite(name, picture)).numpy()
    return values


def to_mask(mask: torch.Tensor, size: Size) -> Array | None:
    """(H, W) to one of ``size``, 1 where the picture was meant to change; None for nowhere.

    Raises ``InputError`` for another aspect.
    """
    painted = (finite("mask", mask) >= MASKED_FROM).to(torch.float32)
    # Before its shape: for a picture without transparency Load Image gives 64 x 64 zeros.
    if not painted.any():
        return None
    check_mask_aspect("mask", painted, "before", size)
    found: Array = painted.numpy()
    return found if Size.of(found.shape) == size else _resized(found, size)


def scaled(picture: Array, size: Size) -> Array:
    """``picture`` (H, W, 3) at ``size``; ``InputError`` for another aspect."""
    own = Size.of(picture.shape)
    if own == size:
        return picture
    if not own.same_aspect(size):
        raise InputError(
            f"after is {own} pixels, before {size}.", "Connect pictures of one aspect."
        )
    planes = [_resized(np.ascontiguousarray(picture[..., channel]), size) for channel in range(3)]
    return np.stack(planes, axis=-1).clip(0, 1)


def _resized(plane: Array, size: Size) -> Array:
    resized = Image.fromarray(plane).resize((size.width, size.height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
