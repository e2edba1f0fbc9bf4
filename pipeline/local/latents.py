"""Between pictures and the transformer's tokens: packing, VAE, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..geometry import CELL, Size
from ..images import Pixels

if TYPE_CHECKING:
    from diffusers import AutoencoderKLQwenImage

Noise = Literal["cpu", "gpu"]
NOISES: tuple[Noise, ...] = ("cpu", "gpu")

CHANNELS = 16
SCALE = 8
"""Pixels per latent cell and side."""


@dataclass(frozen=True)
class Tokens:
    """Latents as the transformer takes them: (1, rows * columns, 64), and their grid."""

    values: Tensor
    grid: tuple[int, int]


def grid_of(size: Size) -> tuple[int, int]:
    """Rows and columns of tokens for a canvas in pixels."""
    return (size.height // CELL, size.width // CELL)


def pack(latents: Tensor) -> Tensor:
    """(1, 16, 1, h, w) latents to (1, h/2 * w/2, 64) tokens: one token per 2x2 patch."""
    *_, height, width = latents.shape
    patches = latents.reshape(1, CHANNELS, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(1, -1, CHANNELS * 4)


def unpack(tokens: Tokens) -> Tensor:
    """The inverse of ``pack``: (1, 16, 1, h, w)."""
    rows, columns = tokens.grid
    patches = tokens.values.reshape(1, rows, columns, CHANNELS, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(1, CHANNELS, 1, rows * 2, columns * 2)


def draw_noise(
    size: Size, seed: int, device: torch.device, dtype: torch.dtype, where: Noise
) -> Tokens:
    """Gaussian noise tokens of a canvas.

    Drawn on the CPU it is KSampler's noise for the same seed; drawn on the GPU it is that of the
    reference script, and differs from card to card.
    """
    rows, columns = grid_of(size)
    source = device if where == "gpu" else torch.device("cpu")
    generator = torch.Generator(source).manual_seed(seed)
    shape = (1, CHANNELS, 1, rows * 2, columns * 2)
    noise = torch.randn(shape, generator=generator, device=source, dtype=dtype)
    return Tokens(pack(noise.to(device)), (rows, columns))


def encode(vae: AutoencoderKLQwenImage, pixels: Pixels, device: torch.device) -> Tokens:
    """(H, W, 3) uint8 with sides a multiple of 16 to normalised latent tokens."""
    picture = torch.from_numpy(pixels.copy()).to(torch.float32).div(255) * 2 - 1
    picture = picture.permute(2, 0, 1)[None, :, None].to(device, vae.dtype)
    latents: Tensor = vae.encode(picture).latent_dist.mode()
    mean, std = _statistics(vae, latents)
    height, width = pixels.shape[:2]
    return Tokens(pack((latents - mean) / std), grid_of(Size(width, height)))


def decode(vae: AutoencoderKLQwenImage, tokens: Tokens) -> Tensor:
    """Normalised latent tokens to a (H, W, 3) float32 picture on the CPU, clamped to 0..1."""
    latents = unpack(tokens).to(vae.dtype)
    mean, std = _statistics(vae, latents)
    # Divided by the reciprocal, as the reference does: in bf16 that rounds differently.
    picture: Tensor = vae.decode(latents / (1.0 / std) + mean, return_dict=False)[0][0, :, 0]
    picture = (picture * 0.5 + 0.5).clamp(0, 1)
    return picture.permute(1, 2, 0).to("cpu", torch.float32)


def _statistics(vae: AutoencoderKLQwenImage, like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, CHANNELS, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    std = torch.tensor(vae.config.latents_std).view(shape)
    return mean.to(like.device, like.dtype), std.to(like.device, like.dtype)
