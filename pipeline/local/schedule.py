"""Which noise levels an edit passes through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler


def prepared_schedule(
    scheduler: FlowMatchEulerDiscreteScheduler,
    steps: int,
    tokens: int,
    device: torch.device,
    shift: float | None = None,
) -> FlowMatchEulerDiscreteScheduler:
    """A fresh scheduler set to ``steps`` for a canvas of ``tokens`` latent tokens.

    The shift of the noise levels grows linearly with the canvas, between the two anchors of the
    scheduler's own configuration, as FireRed was trained. A distilled model was trained at one
    ``shift`` for every canvas, and down to no noise at all instead of a terminal level.
    """
    own = type(scheduler).from_config(scheduler.config, **_fixed(shift))
    sigmas = np.linspace(1.0, 1 / steps, steps)
    own.set_timesteps(sigmas=sigmas, mu=_shift(own, tokens), device=device)
    own.set_begin_index(0)
    return own


def _fixed(shift: float | None) -> dict[str, Any]:
    if shift is None:
        return {}
    return {"base_shift": math.log(shift), "max_shift": math.log(shift), "shift_terminal": None}


def _shift(scheduler: FlowMatchEulerDiscreteScheduler, tokens: int) -> float:
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (
        config.max_image_seq_len - config.base_image_seq_len
    )
    intercept = config.base_shift - slope * config.base_image_seq_len
    return float(tokens * slope + intercept)
