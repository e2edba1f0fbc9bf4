"""The VAE for single pictures.

It was made for video: its convolutions look at the frames before, which for a picture are zeros.
Of three temporal taps two then multiply zeros; leaving them out is the same mathematics up to
rounding, for a third of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKLQwenImage
    from torch import Tensor

OVERLAP = 128
"""Pixels in which neighbouring tiles are blended."""


@cache
def _convolutions() -> tuple[type[nn.Module], type[nn.Module]]:
    """The VAE's own causal convolution, and ours that is made from it."""
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d

    class StillCausalConv3d(QwenImageCausalConv3d):
        """The VAE's convolution, which can leave out the taps that would see only padding."""

        still = False

        def forward(self, x: Tensor, cache_x: Any = None) -> Tensor:
            if not self.still or cache_x is not None or x.shape[2] != 1:
                result: Tensor = super().forward(x, cache_x)
                return result
            frame = nn.functional.pad(x[:, :, 0], self._padding[:4])
            kernel = self.weight[:, :, -1]
            flat = nn.functional.conv2d(frame, kernel, self.bias, self.stride[1:])
            return flat[:, :, None]

    return QwenImageCausalConv3d, StillCausalConv3d


def with_still_convolutions(vae: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """``vae`` with every causal convolution able to work on a single picture."""
    causal, still = _convolutions()
    for module in vae.modules():
        if type(module) is causal:
            module.__class__ = still
    return vae


@dataclass(frozen=True)
class Mode:
    """How the VAE works: on single frames, and on tiles of that many pixels a side."""

    still: bool = False
    tile: int | None = None


@contextmanager
def working(vae: AutoencoderKLQwenImage, mode: Mode) -> Iterator[None]:
    """Within this context ``vae`` works in ``mode``."""
    still = _convolutions()[1]
    layers: list[Any] = [module for module in vae.modules() if isinstance(module, still)]
    for layer in layers:
        layer.still = mode.still
    if mode.tile:
        stride = mode.tile - OVERLAP
        vae.enable_tiling(mode.tile, mode.tile, stride, stride)
    try:
        yield
    finally:
        vae.use_tiling = False
        # An encode or decode that was broken off leaves frames behind.
        vae.clear_cache()
        for layer in layers:
            layer.still = False
