"""Masks as artists paint them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def blob(width: int, height: int, seed: int, share: float = 0.1) -> torch.Tensor:
    """(H, W) of 0 and 1: round shapes that cover about ``share`` of it."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.random((5, 5), dtype=np.float32))
    heights = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(
        (heights > np.quantile(heights[::4, ::4], 1 - share)).astype(np.float32)
    )


def disc(width: int, height: int, radius: float, centre: tuple[float, float]) -> torch.Tensor:
    """(H, W) of 0 and 1, a disc around ``centre`` (x, y)."""
    x, y = np.arange(width) - centre[0], np.arange(height) - centre[1]
    inside = np.add.outer(y * y, x * x) <= radius * radius
    return torch.from_numpy(inside.astype(np.float32))
