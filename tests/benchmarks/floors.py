"""The time below which no machine of a measured rate can carry out an edit."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.task import Task
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local.conditioning import EMPTY_NEGATIVE  # noqa: E402 - needs the pack
from firered_edit.pipeline.local.costs import (  # noqa: E402
    Counts,
    TransformerShape,
    Work,
    decode_picture_work,
    encode_picture_work,
    pass_work,
    read_prompt_work,
)
from firered_edit.pipeline.local.encoding import (  # noqa: E402
    PICTURE,
    TEMPLATE_HEAD,
    TEMPLATE_HEAD_TOKENS,
    TEMPLATE_TAIL,
)

if TYPE_CHECKING:
    from benchmarks.weights import Weights

SEEN_SIDE = 28
"""Patches along a side of a square picture as the text encoder sees it."""

ROUNDS = 5
PRODUCTS = 20
"""Matrix products of a round."""


def matrix_rate(device: torch.device, side: int, dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations a second in a large matrix product: the median of some rounds."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(ROUNDS + 1):
        _wait(device)
        start = perf_counter()
        for _ in range(PRODUCTS):
            torch.matmul(left, right)
        _wait(device)
        times.append(perf_counter() - start)
    return PRODUCTS * 2 * side**3 / statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Floor:
    """What a step of an edit takes, and all that comes before and after the steps."""

    step: Work
    around: Work

    def edit(self, steps: int) -> Work:
        return self.around + self.step.times(steps)


def floor_of(task: Task, weights: Weights) -> Floor:
    """Counted on the configurations of ``weights``. The VAE counts as made for single pictures."""
    scale = task.scale
    shape = TransformerShape.of(scale.transformer)
    target = (scale.side // 16) ** 2
    config = {
        "base_dim": scale.vae_dim,
        "dim_mult": (1, 2, 4, 4),
        "num_res_blocks": 2,
        "z_dim": 16,
        "input_channels": 3,
    }
    prompts = [task.prompt, EMPTY_NEGATIVE] if task.guidance > 1 else [task.prompt]
    picture = encode_picture_work(config, scale.side, scale.side, still=True)
    step, around = Work(0), picture.times(task.references)
    around += decode_picture_work(config, scale.side, scale.side, still=True)
    for prompt in prompts:
        tokens = prompt_tokens(weights.processor, prompt, task.references)
        text = tokens - TEMPLATE_HEAD_TOKENS
        step += pass_work(shape, Counts(target, target * task.references, text))
        grids = [(SEEN_SIDE, SEEN_SIDE)] * task.references
        around += read_prompt_work(weights.encoder_config, tokens, grids)
    return Floor(step, around)


def prompt_tokens(processor: Any, prompt: str, pictures: int) -> int:
    """Tokens that the encoder reads, those of the pictures included."""
    named = "".join(PICTURE.format(number=number) for number in range(1, pictures + 1))
    words = processor.tokenizer(TEMPLATE_HEAD + named + prompt + TEMPLATE_TAIL)["input_ids"]
    # A placeholder stands for all tokens of its picture, four patches each.
    return len(words) + pictures * (SEEN_SIDE**2 // 4 - 1)
