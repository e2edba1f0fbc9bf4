"""One edit on this machine: encode, denoise, decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..canvas import restore
from ..checks import check_choice
from ..errors import InputError
from ..host import LocalHost
from ..images import check_finite, check_shown
from ..preparation import Prepared, Stopwatch, prepare
from ..request import MAX_SEED, TRAINED_REFERENCES, EditRequest, EditResult
from .acceleration.caching import check_installed
from .acceleration.choosing import Acceleration
from .autoencoder import Mode
from .bench import Bench
from .cancelling import cancel_points, check_cancelled
from .conditioning import Conditioner
from .decoding import Decoder
from .denoising import Conditions, denoise, model_times
from .latents import NOISES, Noise, Tokens, draw_noise, grid_of
from .modulation import Table, clear_rows, compute_table
from .pacing import Steps
from .planning import loaded_words, plan_memory, step_time
from .rates import device_rates
from .schedule import prepared_schedule

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler

    from .model import FireRedModel


def check_local(request: EditRequest) -> None:
    """Raise for what only this engine cannot do, before a weight is moved."""
    if len(request.references) > TRAINED_REFERENCES:
        raise InputError(
            f"{len(request.references)} pictures are connected; the model takes "
            f"{TRAINED_REFERENCES}.",
            "Put them together with FireRed Stitch References, or use FireRed Edit (fal).",
        )
    if request.acceleration == "high":
        check_installed()


class LocalEngine:
    """Carries out edits with one loaded model. Not re-entrant: one GPU, one edit at a time.

    ``compiles`` overrides where faster kernels are compiled: on GPUs only, unless it says so.
    """

    def __init__(
        self,
        model: FireRedModel,
        host: LocalHost,
        noise: Noise = "cpu",
        compiles: bool | None = None,
    ) -> None:
        check_choice("noise", noise, NOISES)
        self._model = model
        self._host = host
        self._noise = noise
        self._compiles = compiles

    @torch.inference_mode()
    def edit(self, request: EditRequest) -> EditResult:
        """Run ``request``. Picture k is drawn from seed + k, as a single run would.

        A LoRA that brings its own schedule replaces steps and guidance; the receipt says so.
        Raises ``FireRedError``, or ``EditCancelled`` at the next block.
        """
        prepared = self._prepare(request)
        check_local(prepared.request)
        bench = Bench(self._model, self._host)
        return _Run(bench, self._noise, prepared, self._compiles).result()

    def _prepare(self, request: EditRequest) -> Prepared:
        own = self._model.schedule
        if own is None:
            return prepare(request)
        request = replace(request, num_inference_steps=own.steps, guidance_scale=own.guidance_scale)
        return prepare(request, f"{own.source} {own}")


class _Run:
    """One edit on its way."""

    def __init__(
        self, bench: Bench, noise: Noise, prepared: Prepared, compiles: bool | None
    ) -> None:
        self._bench = bench
        self._model, self._host = bench.model, bench.host
        self._noise = noise
        self._prepared = prepared
        self._request, self._plan = prepared.request, prepared.plan
        self._planned = plan_memory(self._model, prepared, self._host.total_memory)
        self._sizes = self._planned.sizes
        still = self._request.acceleration != "none"
        self._conditioner = Conditioner(bench, self._sizes, Mode(still, self._sizes.encode_tile))
        self._decoder = Decoder(bench, self._sizes, Mode(still, self._sizes.decode_tile))
        self._acceleration = Acceleration(bench, self._request, self._sizes.paired, compiles)
        self._memory = self._planned.words()
        self._total = self._request.num_images * self._request.num_inference_steps

    def result(self) -> EditResult:
        watch = Stopwatch()
        handles = (self._model.transformer, self._model.text_encoder, self._model.vae)
        try:
            with cancel_points([handle.module for handle in handles], self._host):
                images = self._images(watch)
        finally:
            clear_rows(self._transformer)
        seeds = _seeds(self._request)
        receipt = self._prepared.receipt("local", self._model.name, seeds)
        receipt.timings_s = watch.seconds
        receipt.details = self._details()
        return EditResult(images, self._request.seed, receipt)

    def _images(self, watch: Stopwatch) -> torch.Tensor:
        self._host.progress(0, self._total)
        with watch.phase("encode"):
            conditions = self._conditioner.conditions(self._prepared)
        with watch.phase("denoise"):
            latents = self._denoise(conditions)
        with watch.phase("decode"):
            pictures = [self._picture(tokens) for tokens in latents]
        self._host.say(self._prepared.summary())
        return torch.stack(pictures)

    def _denoise(self, conditions: Conditions) -> list[Tokens]:
        phase = "preparing the steps"
        if self._planned.streamed:
            phase += f"; transformer {self._memory['transformer']}"
        self._bench.bring(phase, self._model.transformer, self._sizes.denoise)
        table = self._table(self._schedule()).to(self._host.device)
        select = partial(table.select, self._transformer)
        self._acceleration.prepare()
        steps = Steps(self._model, self._prepared, self._host, self._predicted())
        on_step = self._step_counter(steps)
        results = []
        for seed in _seeds(self._request):
            noise = draw_noise(
                self._plan.canvas, seed, self._host.device, self._model.dtype, self._noise
            )
            scheduler, scale = self._schedule(), conditions.guidance_scale
            with self._acceleration.passes(noise, conditions) as passes:
                result = denoise(passes, select, scheduler, noise, scale, on_step)
            check_finite(result.values)
            results.append(result)
        steps.remember()
        if (loaded := loaded_words(self._model.transformer)) is not None:
            self._memory["transformer"] = loaded
        return results

    def _predicted(self) -> float | None:
        """Seconds a step should take on this device, where that can be measured."""
        rates = device_rates(self._host.device)
        if rates is None:
            return None
        return step_time(self._model, self._prepared, self._planned, rates).seconds

    def _schedule(self) -> FlowMatchEulerDiscreteScheduler:
        rows, columns = grid_of(self._plan.canvas)
        own = self._model.schedule
        return prepared_schedule(
            self._model.scheduler,
            self._request.num_inference_steps,
            rows * columns,
            self._host.device,
            own.shift if own else None,
        )

    def _table(self, scheduler: FlowMatchEulerDiscreteScheduler) -> Table:
        model = self._model
        times = model_times(scheduler, model.dtype)

        def compute() -> tuple[torch.Tensor, torch.Tensor]:
            table = compute_table(self._transformer, model.modulation, times, self._host)
            return table.image, table.text

        versions = (model.transformer.version, model.modulation.version)
        content = ([time.item() for time in times], str(model.dtype), *versions)
        return Table(*self._bench.remembered("modulation tables", content, compute))

    def _picture(self, tokens: Tokens) -> torch.Tensor:
        picture = self._decoder.picture(tokens)
        check_shown(picture)
        return restore(picture, self._plan)

    @property
    def _transformer(self) -> Any:
        return self._model.transformer.module

    def _step_counter(self, steps: Steps) -> Callable[[Callable[[], torch.Tensor]], None]:
        """A callback that reports one more step each time, over all pictures of the batch."""

        def on_step(estimate: Callable[[], torch.Tensor]) -> None:
            _settle(self._host.device)
            check_cancelled(self._host)
            self._host.preview(estimate)
            steps.step()

        return on_step

    def _details(self) -> dict[str, Any]:
        own = self._model.schedule
        return {
            "precision": self._model.precision,
            "loras": [str(use) for use in self._model.loras],
            "schedule": f"shift {own.shift:g}, no terminal level" if own else "reference",
            "noise": self._noise,
            "acceleration": self._acceleration.describe(),
            "device": str(self._host.device),
            "memory": self._memory,
            "tiles": self._decoder.tiles,
            "cache": self._bench.receipt(),
        }


def _settle(device: torch.device) -> None:
    """Wait for the device: what is queued on it could neither be cancelled nor be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seeds(request: EditRequest) -> list[int]:
    return [(request.seed + k) % (MAX_SEED + 1) for k in range(request.num_images)]
