"""The experiment of ``reuse`` in figures: work, time, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.floors import prompt_tokens
from benchmarks.reuse import every, refresh_count, reusing
from benchmarks.scale import GUIDANCE, KINDS, Kind
from benchmarks.task import PROMPT, Clock
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import Size  # noqa: E402 - needs the pack
from firered_edit.pipeline.local.conditioning import EMPTY_NEGATIVE  # noqa: E402
from firered_edit.pipeline.local.costs import (  # noqa: E402
    Counts,
    TransformerShape,
    Work,
    pass_work,
)
from firered_edit.pipeline.local.denoising import (  # noqa: E402
    Conditions,
    Passes,
    ReferencePasses,
    denoise,
    model_times,
)
from firered_edit.pipeline.local.encoding import TEMPLATE_HEAD_TOKENS  # noqa: E402
from firered_edit.pipeline.local.latents import Tokens, draw_noise  # noqa: E402
from firered_edit.pipeline.local.modulation import clear_rows, compute_table  # noqa: E402
from firered_edit.pipeline.local.schedule import prepared_schedule  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.hosting import ComfyBenchHost, PlainBenchHost
    from benchmarks.weights import Weights
    from firered_edit.pipeline.local.model import FireRedModel

Refreshes = Callable[[int], bool]


@dataclass(frozen=True)
class Recipe:
    """When the references are computed anew, in which kind of edit."""

    name: str
    kind: Kind
    refreshes: Refreshes


RECIPES = (
    Recipe("refreshed at every step", KINDS[2], every(1)),
    Recipe("computed once", KINDS[2], every(1000)),
    Recipe("refreshed at every 4th step", KINDS[0], every(4)),
)


class Trial:
    """One model's transformer on noise, with references kept and without."""

    def __init__(
        self, weights: Weights, model: FireRedModel, host: ComfyBenchHost | PlainBenchHost
    ) -> None:
        self._weights = weights
        self._model = model
        self._host = host

    def rows(self, references: Sequence[int], out_of_time: Callable[[], bool]) -> Iterator[Any]:
        """A row for every recipe and count of references, as long as there is time."""
        for recipe in RECIPES:
            for count in references:
                if not out_of_time():
                    yield self._row(recipe, count)

    def _row(self, recipe: Recipe, references: int) -> dict[str, Any]:
        steps = self._weights.scale.steps[recipe.kind]
        plain, plain_s = self.denoised(references, recipe.kind, None)
        kept, kept_s = self.denoised(references, recipe.kind, recipe.refreshes)
        difference = (kept - plain).float()
        return {
            "references": str(references),
            "recipe": recipe.name,
            "steps": str(steps),
            "work, of plain": f"{self._work_ratio(recipe, references):.3f}",
            "time, of plain": f"{kept_s / plain_s:.3f}",
            "latents, most": f"{float(difference.abs().max()):.3f}",
            "latents, RMS": f"{float((difference**2).mean().sqrt()):.4f}",
            "equal": "yes" if torch.equal(kept, plain) else "no",
        }

    def _work_ratio(self, recipe: Recipe, references: int) -> float:
        scale = self._weights.scale
        steps = scale.steps[recipe.kind]
        whole = refresh_count(recipe.refreshes, steps)
        plain, kept = Work(0), Work(0)
        for text in self._text_tokens(references, recipe.kind):
            target = (scale.side // 16) ** 2
            counts = Counts(target, target * references, text)
            one = partial(pass_work, TransformerShape.of(scale.transformer), counts, tabled=True)
            plain += one().times(steps)
            kept += one().times(whole) + one(kept=True).times(steps - whole)
        return kept.total / plain.total

    @torch.inference_mode()
    def denoised(
        self, references: int, kind: Kind, refreshes: Refreshes | None
    ) -> tuple[Tensor, float]:
        """Latents of an edit, and the seconds of its steps; None runs the plain passes."""
        model, host = self._model, self._host
        host.load([model.transformer], 0)
        transformer = model.transformer.module
        conditions, noise = self._conditions(references, kind), self._noise(0)
        steps = self._weights.scale.steps[kind]
        scheduler = prepared_schedule(model.scheduler, steps, noise.values.shape[1], host.device)
        table = compute_table(
            transformer, model.modulation, model_times(scheduler, model.dtype), host
        ).to(host.device)
        select = partial(table.select, transformer)
        making: AbstractContextManager[Passes]
        if refreshes is None:
            making = nullcontext(ReferencePasses(transformer, noise, conditions))
        else:
            making = reusing(transformer, noise, conditions, refreshes)
        clock = Clock(host.device)
        try:
            with making as passes:
                clock.start()
                found = denoise(
                    passes, select, scheduler, noise, conditions.guidance_scale, lambda _: None
                )
                clock.stop()
        finally:
            clear_rows(transformer)
        return found.values, clock.ended - clock.began

    def _conditions(self, references: int, kind: Kind) -> Conditions:
        prompts = [self._prompt(text) for text in self._text_tokens(references, kind)]
        pictures = [self._noise(number) for number in range(1, references + 1)]
        negative = prompts[1] if len(prompts) > 1 else None
        return Conditions(prompts[0], negative, pictures, GUIDANCE[kind])

    def _text_tokens(self, references: int, kind: Kind) -> list[int]:
        prompts = [PROMPT.format(number=1)]
        if GUIDANCE[kind] > 1:
            prompts.append(EMPTY_NEGATIVE)
        processor = self._weights.processor
        return [
            prompt_tokens(processor, prompt, references) - TEMPLATE_HEAD_TOKENS
            for prompt in prompts
        ]

    def _prompt(self, tokens: int) -> Tensor:
        generator = torch.Generator().manual_seed(tokens)
        drawn = torch.randn(1, tokens, self._weights.scale.text_width, generator=generator)
        return drawn.to(self._host.device, self._model.dtype)

    def _noise(self, seed: int) -> Tokens:
        side = self._weights.scale.side
        return draw_noise(Size(side, side), seed, self._host.device, self._model.dtype, "cpu")
