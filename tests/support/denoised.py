"""What the transformer of a loaded model makes of noise: all that its weights decide, at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import Size  # noqa: E402 - needs the pack
from firered_edit.pipeline.local.denoising import (  # noqa: E402
    Conditions,
    ReferencePasses,
    denoise,
    model_times,
)
from firered_edit.pipeline.local.latents import draw_noise, grid_of  # noqa: E402
from firered_edit.pipeline.local.modulation import clear_rows, compute_table  # noqa: E402
from firered_edit.pipeline.local.schedule import prepared_schedule  # noqa: E402

if TYPE_CHECKING:
    from firered_edit.pipeline.host import LocalHost
    from firered_edit.pipeline.local.model import FireRedModel

CANVAS = Size(96, 64)
REFERENCE = Size(48, 64)
TEXT_TOKENS = 9


@torch.inference_mode()
def denoised(model: FireRedModel, host: LocalHost, steps: int = 2) -> torch.Tensor:
    """Latent tokens of an edit in ``steps``, its prompt and its reference being noise too.

    Without guidance, which would magnify small differences.
    """
    host.load([model.transformer], 0)
    transformer = model.transformer.module
    rows, columns = grid_of(CANVAS)
    scheduler = prepared_schedule(model.scheduler, steps, rows * columns, host.device)
    times = model_times(scheduler, model.dtype)
    table = compute_table(transformer, model.modulation, times, host)
    noise, reference = (
        draw_noise(size, seed, host.device, model.dtype, "cpu")
        for seed, size in enumerate((CANVAS, REFERENCE))
    )
    conditions = Conditions(_prompt(model), None, [reference], 1.0)
    try:
        passes = ReferencePasses(transformer, noise, conditions)
        select = partial(table.select, transformer)
        return denoise(passes, select, scheduler, noise, 1.0, _ignore).values
    finally:
        clear_rows(transformer)


def _prompt(model: FireRedModel) -> torch.Tensor:
    width = model.transformer.module.config.joint_attention_dim
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, TEXT_TOKENS, width, generator=generator).to(model.dtype)


def _ignore(_estimate: object) -> None:
    """Nobody looks at the steps."""


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative L2 distance of ``one`` from ``other``."""
    return float((one.float() - other.float()).norm() / other.float().norm())
