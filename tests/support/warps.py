"""A picture moved by a known shift and scale, more exactly than any resampling filter could."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Picture: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
"""(H, W, 3) float32 in 0..1."""


def warped(picture: Picture, shift: tuple[float, float], scale: float = 1.0) -> Picture:
    """What is at ``q`` from the centre goes to ``scale * q + shift``; in 0..1.

    The picture and its mirror images are one sum of cosines, evaluated where the new pixels lie.
    What a smaller scale cannot hold is left out.
    """
    height, width = picture.shape[:2]
    down = _cosines(height, shift[1], scale)
    across = _cosines(width, shift[0], scale)
    planes = [down @ picture[..., channel] @ across.T for channel in range(3)]
    return np.clip(np.stack(planes, axis=-1), 0, 1).astype(np.float32)


def _cosines(side: int, shift: float, scale: float) -> np.ndarray:
    middle = (side - 1) / 2
    wanted = (np.arange(side) - middle - shift) / scale + middle
    waves = np.arange(side)
    strength = np.where(waves < side * min(1.0, scale), 2 / side, 0.0)
    strength[0] = 1 / side
    forward = np.cos(np.pi * np.outer(waves, np.arange(side) + 0.5) / side)
    back = np.cos(np.pi * np.outer(wanted + 0.5, waves) / side)
    return (back * strength) @ forward
