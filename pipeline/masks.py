"""MASK tensors, checked and read the same way wherever one is connected."""

from __future__ import annotations

import torch

from .checks import check_kind
from .errors import InputError
from .geometry import Size
from .images import finite

FAINTEST = 0.5 / 255
"""Below it a mask is 0 in 8 bits."""


def single_mask(name: str, mask: torch.Tensor) -> torch.Tensor:
    """One MASK, (1, H, W) or (H, W) in 0..1, as (H, W) float32 on the CPU.

    Raises ``InputError`` for several, and for what is none.
    """
    batch = mask_batch(name, mask)
    if len(batch) > 1:
        raise InputError(f"{name} holds {len(batch)} masks.", "Connect one mask for each picture.")
    return finite(name, batch[0])


def mask_batch(name: str, mask: torch.Tensor) -> torch.Tensor:
    """A MASK as (B, H, W); ``InputError`` for what is none."""
    check_kind(name, mask, torch.Tensor, "Connect a MASK.")
    batch = mask[None] if mask.ndim == 2 else mask
    if batch.ndim != 3 or 0 in batch.shape:
        raise InputError(
            f"{name} is not a mask: its shape is {tuple(mask.shape)}.",
            "Connect a MASK of shape (batch, height, width).",
        )
    return batch


def is_empty(values: torch.Tensor) -> bool:
    """Whether nothing is painted.

    To be asked before the shape: with a picture without transparency, ComfyUI's Load Image gives a
    mask of 64 x 64 zeros.
    """
    return float(values.max()) < FAINTEST


def check_mask_aspect(name: str, values: torch.Tensor, picture: str, size: Size) -> None:
    """Raise ``InputError`` where a mask (H, W) was not made for ``picture`` of ``size``."""
    own = Size.of(values.shape)
    if not own.same_aspect(size):
        raise InputError(
            f"{name} is {own} pixels, {picture} is {size}: another aspect.",
            f"Connect a mask that was made for {picture}.",
        )
