"""The prompt as the transformer sees it: read by Qwen2.5-VL together with the pictures.

The stock pipeline of diffusers does not hand the token types on to transformers 5, which then
places picture tokens in a line instead of a plane and silently gives other embeddings. Hence this
own call.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..images import Pixels

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLModel, Qwen2VLProcessor

# The wording the model was trained with; changing a character changes every picture.
TEMPLATE_HEAD = (
    "<|im_start|>system\n"
    "Describe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. "
    "Generate a new image that meets the user's requirements while maintaining consistency with "
    "the original input where appropriate.<|im_end|>\n<|im_start|>user\n"
)
TEMPLATE_TAIL = "<|im_end|>\n<|im_start|>assistant\n"
TEMPLATE_HEAD_TOKENS = 64
"""Embeddings dropped from the front: the head is the same for every prompt."""

PICTURE = "Picture {number}: <|vision_start|><|image_pad|><|vision_end|>"
CONDITION_AREA = 384 * 384
CONDITION_CELL = 32


def condition_pictures(placed: Sequence[Pixels]) -> list[Image.Image]:
    """The references as the text encoder sees them: about 384 x 384 pixels each."""
    return [_condition(Image.fromarray(pixels)) for pixels in placed]


def _condition(picture: Image.Image) -> Image.Image:
    ratio = picture.width / picture.height
    width = math.sqrt(CONDITION_AREA * ratio)
    size = (_nearest_cells(width), _nearest_cells(width / ratio))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _nearest_cells(length: float) -> int:
    return max(1, round(length / CONDITION_CELL)) * CONDITION_CELL


def encode_prompt(
    encoder: Qwen2_5_VLModel,
    processor: Qwen2VLProcessor,
    prompt: str,
    pictures: Sequence[Image.Image],
    device: torch.device,
) -> torch.Tensor:
    """Embeddings (1, L, D) of ``prompt`` about ``pictures``, in the encoder's dtype."""
    numbered = "".join(PICTURE.format(number=i) for i in range(1, len(pictures) + 1))
    inputs = processor(
        text=[TEMPLATE_HEAD + numbered + prompt + TEMPLATE_TAIL],
        images=list(pictures),
        return_tensors="pt",
        **_token_type_request(encoder),
    ).to(device)
    hidden: torch.Tensor = encoder(**inputs, use_cache=False).last_hidden_state
    return hidden[:, TEMPLATE_HEAD_TOKENS:]


def _token_type_request(encoder: Qwen2_5_VLModel) -> dict[str, Any]:
    # Older transformers finds the picture tokens by itself and refuses the argument.
    takes_types = "mm_token_type_ids" in inspect.signature(encoder.forward).parameters
    return {"return_mm_token_type_ids": True} if takes_types else {}
