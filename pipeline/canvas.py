"""Carrying out a geometry plan on pixels: onto the grid, and back to the output."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .geometry import Fit, Plan
from .images import Pixels


def place(pixels: Pixels, fit: Fit) -> Pixels:
    """(H, W, 3) uint8 of ``fit.source`` laid on ``fit.grid``, its edges repeated where it ends."""
    padded = _pad_edges(pixels, fit)
    size = (fit.grid.width, fit.grid.height)
    if padded.shape[:2] == size[::-1] and fit.scale == 1.0:
        return padded
    picture = Image.fromarray(padded)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=fit.box))


def _pad_edges(pixels: Pixels, fit: Fit) -> Pixels:
    _, _, right, bottom = fit.box
    height, width = pixels.shape[:2]
    missing_y = max(0, int(np.ceil(bottom - 1e-6)) - height)
    missing_x = max(0, int(np.ceil(right - 1e-6)) - width)
    if not (missing_x or missing_y):
        return pixels
    return np.pad(pixels, ((0, missing_y), (0, missing_x), (0, 0)), mode="edge")


def restore(canvas: torch.Tensor, plan: Plan) -> torch.Tensor:
    """(h, w, 3) float32 result of the canvas to (H, W, 3) of exactly ``plan.output``.

    A result of another size than the canvas was refitted by a server, as a whole: its frame is
    found by the same ratio.
    """
    height, width = canvas.shape[:2]
    right = plan.frame[0] * width / plan.canvas.width
    bottom = plan.frame[1] * height / plan.canvas.height
    size = (plan.output.width, plan.output.height)
    if max(abs(right - size[0]), abs(bottom - size[1])) < 1e-6:
        return canvas[: size[1], : size[0]].clone()
    box = (0.0, 0.0, min(right, width), min(bottom, height))
    planes = [_resize_plane(canvas[..., channel], size, box) for channel in range(3)]
    return torch.stack(planes, dim=-1).clamp_(0.0, 1.0)


def _resize_plane(
    plane: torch.Tensor, size: tuple[int, int], box: tuple[float, float, float, float]
) -> torch.Tensor:
    # One float plane at a time: Pillow resizes RGB only in 8 bits, which would cost precision.
    picture = Image.fromarray(plane.contiguous().numpy())
    return torch.from_numpy(np.array(picture.resize(size, Image.Resampling.LANCZOS, box=box)))
