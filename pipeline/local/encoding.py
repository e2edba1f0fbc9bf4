"""The prompt as the transformer sees it: read by Qwen2.5-VL together with the pictures.

The rotary positions of picture tokens lie on a plane. Who computes them differs between releases of
transformers: some need token types that the stock pipeline of diffusers does not hand on, and then
place the tokens in a line; some compute other planes. Every such slip changes the picture in
silence, so the positions are computed here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..errors import InputError
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

MAX_TOKENS = 3584
"""The transformer's table of text positions has 4096 rows, less half a canvas of 8192 pixels."""

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
    )
    _check_length(inputs["input_ids"].shape[1])
    positions = plane_positions(
        inputs["input_ids"][0] == encoder.config.image_token_id,
        inputs["image_grid_thw"].tolist(),
        encoder.config.vision_config.spatial_merge_size,
    )
    hidden: torch.Tensor = encoder(
        input_ids=inputs["input_ids"].to(device),
        attention_mask=inputs["attention_mask"].to(device),
        pixel_values=inputs["pixel_values"].to(device),
        image_grid_thw=inputs["image_grid_thw"].to(device),
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state
    return hidden[:, TEMPLATE_HEAD_TOKENS:]


def _check_length(tokens: int) -> None:
    if tokens > MAX_TOKENS:
        raise InputError(
            f"The prompt is {tokens} tokens long; the model takes {MAX_TOKENS} with its pictures.",
            "Shorten it.",
        )


def plane_positions(
    is_picture: torch.Tensor, grids: Sequence[Sequence[int]], merge: int
) -> torch.Tensor:
    """Rotary positions (3, 1, L): time, row and column of every token.

    ``is_picture`` (L) marks picture tokens; ``grids`` are time, rows and columns of each picture
    in vision patches, of which ``merge`` by ``merge`` become one token. Text counts on along all
    three axes, and goes on after the longer side of a picture.
    """
    parts: list[torch.Tensor] = []
    start, tokens, waiting = 0, is_picture.tolist(), iter(grids)
    for picture, group in itertools.groupby(tokens):
        length = len(list(group))
        if not picture:
            parts.append(torch.arange(start, start + length).expand(3, -1))
            start += length
            continue
        _, rows, columns = (side // merge for side in next(waiting))
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
        parts.append(start + torch.cat([torch.zeros(1, length, dtype=torch.long), grid]))
        start += max(rows, columns)
    return torch.cat(parts, dim=1)[:, None]
