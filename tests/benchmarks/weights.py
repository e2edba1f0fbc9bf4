"""Random weights of unit gain, made on the device: nothing is loaded, nothing lies on a disk.

With the small weights of a fresh model attention and modulation hardly contribute, and a deviation
would not show; with large ones everything overflows. Here every layer roughly keeps the scale of
its input.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from benchmarks.scale import Scale
from doubles.tiny_tokenizer import (
    IMAGE_TOKEN,
    VIDEO_TOKEN,
    VISION_END_TOKEN,
    VISION_START_TOKEN,
    build_tokenizer,
)
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local.families import IMAGE_PROCESSOR, SCHEDULER  # noqa: E402

Tensors: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Strength:
    """How much layers contribute: activation functions halve what passes them.

    ``sharpness`` is that of queries and keys: at one, attention hardly tells tokens apart.
    """

    gain: float
    sharpness: float


UNIT = Strength(gain=1.3, sharpness=2.0)
CALM = Strength(gain=0.3, sharpness=1.0)
"""A velocity that hardly changes from step to step: step caching leaves out all it may."""

CAUSAL_TAPS = 3


@dataclass(frozen=True)
class Weights:
    """The weights of one model on ``device``, shared by whoever runs it, and how to read text."""

    scale: Scale
    device: torch.device
    dtype: torch.dtype
    processor: Any
    transformer: Tensors
    encoder: Tensors
    vae: Tensors

    @property
    def scheduler(self) -> Any:
        from diffusers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler(**SCHEDULER)

    @cached_property
    def encoder_config(self) -> dict[str, Any]:
        return _encoder_config(self.scale, self.processor)


def make_weights(
    scale: Scale,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    strength: Strength = UNIT,
) -> Weights:
    """``folder`` takes the few files of the tokenizer, a small one that is built here."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    tokenizer = build_tokenizer(folder)
    pictures, videos = Qwen2VLImageProcessor(**IMAGE_PROCESSOR), Qwen2VLVideoProcessor()
    processor = Qwen2VLProcessor(pictures, tokenizer, videos)
    config = _encoder_config(scale, processor)
    made = [
        _drawn(empty, device, dtype, strength)
        for empty in (empty_transformer(scale), empty_encoder(config), empty_vae(scale))
    ]
    return Weights(scale, device, dtype, processor, *made)


def empty_transformer(scale: Scale) -> Any:
    from diffusers import QwenImageTransformer2DModel

    return without_memory(lambda: QwenImageTransformer2DModel(**scale.transformer))


def empty_encoder(config: dict[str, Any]) -> Any:
    """Qwen2.5-VL with the language head that an edit does not need."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    made = Qwen2_5_VLConfig.from_dict(config)
    return without_memory(lambda: Qwen2_5_VLForConditionalGeneration(made))


def empty_vae(scale: Scale) -> Any:
    from diffusers import AutoencoderKLQwenImage

    return without_memory(lambda: AutoencoderKLQwenImage(base_dim=scale.vae_dim))


def without_memory(make: Callable[[], nn.Module]) -> Any:
    """A module whose parameters have shapes only; its buffers are computed."""
    with init_empty_weights(include_buffers=False):
        return make().eval().requires_grad_(False)


def filled(module: Any, tensors: Tensors) -> Any:
    """``module`` with ``tensors`` as its weights, not copied, and its buffers beside them."""
    module.load_state_dict(tensors, assign=True)
    (device,) = {tensor.device for tensor in tensors.values()}
    return module.requires_grad_(False).to(device)


def _encoder_config(scale: Scale, processor: Any) -> dict[str, Any]:
    number = processor.tokenizer.convert_tokens_to_ids
    return scale.encoder(
        {
            "image_token_id": number(IMAGE_TOKEN),
            "video_token_id": number(VIDEO_TOKEN),
            "vision_start_token_id": number(VISION_START_TOKEN),
            "vision_end_token_id": number(VISION_END_TOKEN),
            "bos_token_id": number("<|endoftext|>"),
            "eos_token_id": number("<|im_end|>"),
        }
    )


def _drawn(
    module: nn.Module, device: torch.device, dtype: torch.dtype, strength: Strength
) -> Tensors:
    made: Tensors = {}
    for prefix, layer in module.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            name = f"{prefix}.{own}"
            mean, spread = _distribution(name, layer, parameter, strength)
            generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
            noise = torch.empty(parameter.shape, device=device, dtype=dtype)
            made[name] = noise.normal_(mean, spread, generator=generator)
    return made


def _distribution(
    name: str, layer: nn.Module, parameter: Tensor, strength: Strength
) -> tuple[float, float]:
    """Mean and standard deviation of one parameter."""
    if name.endswith(".bias"):
        return 0.0, 0.1
    if ".attn.norm_" in name:
        return strength.sharpness, 0.1
    if name.endswith(".gamma") or parameter.ndim == 1:
        return 1.0, 0.1
    if isinstance(layer, nn.Embedding):
        return 0.0, 1.0
    seen = parameter[0].numel()
    if parameter.ndim == 5 and parameter.shape[2] == CAUSAL_TAPS:
        # A single picture meets one tap, the others see padding.
        seen //= CAUSAL_TAPS
    # What leaves the VAE is clipped; few values may reach the ends, where differences disappear.
    last = 0.5 if name == "decoder.conv_out.weight" else 1.0
    return 0.0, last * strength.gain / math.sqrt(seen)
