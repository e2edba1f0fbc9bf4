"""The published architecture at its full size, without a byte of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel


@cache
def real_transformer(zero_cond_t: bool = False, layers: int = 60) -> Any:
    """The diffusion transformer of 20.4 billion parameters, in bf16 on the meta device."""
    with _shapes_in_bf16():
        return QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=64,
            out_channels=16,
            num_layers=layers,
            attention_head_dim=128,
            num_attention_heads=24,
            joint_attention_dim=3584,
            axes_dims_rope=(16, 56, 56),
            zero_cond_t=zero_cond_t,
        )


@cache
def real_vae() -> Any:
    """The VAE of 127 million parameters, in bf16 on the meta device."""
    with _shapes_in_bf16():
        return AutoencoderKLQwenImage(base_dim=96)


@contextmanager
def _shapes_in_bf16() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with init_empty_weights(include_buffers=False):
            yield
    finally:
        torch.set_default_dtype(before)
