"""The denoising loop: the mathematics of the reference pipeline, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .latents import Tokens, unpack

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel


@dataclass(frozen=True)
class Conditions:
    """What steers the picture.

    ``positive`` and ``negative`` are prompt embeddings (1, L, D); without ``negative`` there is no
    guidance. ``references`` are the pictures to edit from.
    """

    positive: Tensor
    negative: Tensor | None
    references: Sequence[Tokens]
    guidance_scale: float

    @property
    def prompts(self) -> list[Tensor]:
        """The embeddings of each branch."""
        return [self.positive] if self.negative is None else [self.positive, self.negative]


class Passes(Protocol):
    """The transformer at work on one picture."""

    def __call__(self, latents: Tensor, time: Tensor) -> list[Tensor]:
        """The velocity (1, T, 64) of each branch for ``latents`` (1, T, 64) at ``time`` (1,).

        The conditional branch first, then, where there is guidance, the unconditional one.
        """


def denoise(
    passes: Passes,
    select: Callable[[int], None],
    scheduler: FlowMatchEulerDiscreteScheduler,
    noise: Tokens,
    guidance_scale: float,
    on_step: Callable[[Callable[[], Tensor]], None],
) -> Tokens:
    """Turn ``noise`` into the latents of the edited picture.

    ``select`` sets the modulation of a step. ``on_step`` is called after every step with a function
    that gives the picture as it stands, as latents (1, 16, 1, h, w). The latents are rounded to
    their own dtype after each step, and the timestep before it is divided, because the reference
    does both.
    """
    latents = noise.values
    times = model_times(scheduler, latents.dtype)
    steps = zip(times, scheduler.timesteps, scheduler.sigmas, strict=False)
    for step, (time, timestep, sigma) in enumerate(steps):
        select(step)
        velocity = _guide(passes(latents, time), guidance_scale)
        estimate = partial(_estimate, latents, velocity, sigma, noise.grid)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        on_step(estimate)
    return Tokens(latents, noise.grid)


def model_times(scheduler: FlowMatchEulerDiscreteScheduler, dtype: torch.dtype) -> list[Tensor]:
    """The timesteps of a schedule as the transformer takes them: (1,) each, in 0..1."""
    return [timestep.expand(1).to(dtype) / 1000 for timestep in scheduler.timesteps]


def _estimate(latents: Tensor, velocity: Tensor, sigma: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where a straight line along ``velocity`` would end: the picture without its noise."""
    return unpack(Tokens(latents - sigma.to(latents) * velocity, grid))


class ReferencePasses:
    """One pass after the other, exactly as the reference pipeline makes them."""

    def __init__(
        self, transformer: QwenImageTransformer2DModel, noise: Tokens, conditions: Conditions
    ) -> None:
        self._transformer = transformer
        self._prompts = conditions.prompts
        self._references = [reference.values for reference in conditions.references]
        grids = [noise.grid, *(reference.grid for reference in conditions.references)]
        self._shapes = [[(1, rows, columns) for rows, columns in grids]]

    def __call__(self, latents: Tensor, time: Tensor) -> list[Tensor]:
        return [self._pass(latents, time, prompt) for prompt in self._prompts]

    def _pass(self, latents: Tensor, time: Tensor, embeddings: Tensor) -> Tensor:
        output: Tensor = self._transformer(
            hidden_states=torch.cat([latents, *self._references], dim=1),
            timestep=time,
            encoder_hidden_states=embeddings,
            encoder_hidden_states_mask=None,
            img_shapes=self._shapes,
            return_dict=False,
        )[0]
        return output[:, : latents.shape[1]]


def _guide(velocities: Sequence[Tensor], scale: float) -> Tensor:
    """True classifier-free guidance, each token brought back to its conditional length."""
    conditional, *others = velocities
    if not others:
        return conditional
    (unconditional,) = others
    combined = unconditional + scale * (conditional - unconditional)
    wanted = conditional.norm(dim=-1, keepdim=True)
    guided: Tensor = combined * (wanted / combined.norm(dim=-1, keepdim=True))
    return guided
