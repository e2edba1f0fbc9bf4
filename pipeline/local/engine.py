"""One edit on this machine: encode, denoise, decode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..canvas import restore
from ..checks import check_choice
from ..errors import InputError, NotYetError
from ..geometry import MEGAPIXEL, Size
from ..host import Handle, LocalHost
from ..images import Pixels, check_shown
from ..preparation import Prepared, Stopwatch, prepare
from ..request import MAX_SEED, TRAINED_REFERENCES, EditRequest, EditResult
from .cancelling import cancel_points, check_cancelled
from .denoising import Conditions, denoise
from .encoding import condition_pictures, encode_prompt
from .latents import NOISES, Noise, Tokens, decode, draw_noise, encode
from .schedule import reference_schedule

if TYPE_CHECKING:
    from .weights import FireRedModel

EMPTY_NEGATIVE = " "
"""The reference's own negative prompt when none is written."""

ACTIVATION_BYTES = 4 * 1024**3
"""Left free beside the weights per megapixel: what decoding takes, the largest of all phases."""


def check_local(request: EditRequest) -> None:
    """Raise for what only this engine cannot do, before a weight is moved."""
    if len(request.references) > TRAINED_REFERENCES:
        raise InputError(
            f"{len(request.references)} pictures are connected; the model takes "
            f"{TRAINED_REFERENCES}.",
            "Connect fewer, or use FireRed Edit (fal).",
        )
    if request.acceleration != "none":
        raise NotYetError(
            f"acceleration {request.acceleration} is not available locally yet.",
            "Choose none for now.",
        )


class LocalEngine:
    """Carries out edits with one loaded model. Not re-entrant: one GPU, one edit at a time."""

    def __init__(self, model: FireRedModel, host: LocalHost, noise: Noise = "cpu") -> None:
        check_choice("noise", noise, NOISES)
        self._model = model
        self._host = host
        self._noise = noise

    @torch.inference_mode()
    def edit(self, request: EditRequest) -> EditResult:
        """Run ``request``. Picture k is drawn from seed + k, as a single run would.

        Raises ``FireRedError``, or ``EditCancelled`` at the next block.
        """
        prepared = prepare(request)
        check_local(request)
        watch = Stopwatch()
        modules = [self._model.transformer, self._model.text_encoder, self._model.vae]
        with cancel_points([handle.module for handle in modules], self._host):
            images = self._run(prepared, watch)
        receipt = prepared.receipt("local", self._model.name, _seeds(request))
        receipt.timings_s = watch.seconds
        receipt.details = {
            "precision": self._model.precision,
            "noise": self._noise,
            "device": str(self._host.device),
        }
        return EditResult(images, request.seed, receipt)

    def _run(self, prepared: Prepared, watch: Stopwatch) -> torch.Tensor:
        self._host.progress(0, self._total_steps(prepared.request))
        placed = prepared.placed_references()
        with watch.phase("encode"):
            conditions = self._encode(prepared, placed)
        with watch.phase("denoise"):
            latents = self._denoise(prepared, conditions)
        with watch.phase("decode"):
            return self._decode(prepared, latents)

    def _encode(self, prepared: Prepared, placed: list[Pixels]) -> Conditions:
        request = prepared.request
        canvas = prepared.plan.canvas
        self._bring("reading the prompt", self._model.text_encoder, canvas)
        pictures = condition_pictures(placed)
        positive = self._embed(prepared.prompt, pictures)
        guided = request.guidance_scale > 1
        negative = (
            self._embed(request.negative_prompt or EMPTY_NEGATIVE, pictures) if guided else None
        )
        self._bring("reading the pictures", self._model.vae, canvas)
        references = [encode(self._vae, pixels, self._host.device) for pixels in placed]
        return Conditions(positive, negative, references, request.guidance_scale)

    def _denoise(self, prepared: Prepared, conditions: Conditions) -> list[Tokens]:
        request, canvas = prepared.request, prepared.plan.canvas
        self._bring("starting", self._model.transformer, canvas)
        on_step = self._step_counter(request)
        results = []
        for seed in _seeds(request):
            dtype = conditions.positive.dtype
            noise = draw_noise(canvas, seed, self._host.device, dtype, self._noise)
            scheduler = reference_schedule(
                self._model.scheduler,
                request.num_inference_steps,
                noise.values.shape[1],
                self._host.device,
            )
            transformer = self._model.transformer.module
            results.append(denoise(transformer, scheduler, noise, conditions, on_step))
        return results

    def _decode(self, prepared: Prepared, latents: list[Tokens]) -> torch.Tensor:
        self._bring("decoding", self._model.vae, prepared.plan.canvas)
        pictures = []
        for tokens in latents:
            check_cancelled(self._host)
            picture = decode(self._vae, tokens)
            check_shown(picture)
            pictures.append(restore(picture, prepared.plan))
        self._host.say(prepared.summary())
        return torch.stack(pictures)

    def _embed(self, prompt: str, pictures: list[Image.Image]) -> torch.Tensor:
        encoder = self._model.text_encoder.module
        return encode_prompt(encoder, self._model.processor, prompt, pictures, self._host.device)

    def _bring(self, phase: str, handle: Handle, canvas: Size) -> None:
        check_cancelled(self._host)
        self._host.say(phase)
        megapixels = max(1.0, canvas.area / MEGAPIXEL)
        self._host.load([handle], int(ACTIVATION_BYTES * megapixels))

    @property
    def _vae(self) -> Any:
        return self._model.vae.module

    def _step_counter(self, request: EditRequest) -> Callable[[Callable[[], torch.Tensor]], None]:
        """A callback that reports one more step each time, over all pictures of the batch."""
        total = self._total_steps(request)
        steps = itertools.count(1)

        def on_step(estimate: Callable[[], torch.Tensor]) -> None:
            _settle(self._host.device)
            check_cancelled(self._host)
            done = next(steps)
            self._host.preview(estimate)
            self._host.progress(done, total)
            self._host.say(f"step {done}/{total}")

        return on_step

    @staticmethod
    def _total_steps(request: EditRequest) -> int:
        return request.num_images * request.num_inference_steps


def _settle(device: torch.device) -> None:
    """Wait for the device: what is queued on it could neither be cancelled nor be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seeds(request: EditRequest) -> list[int]:
    return [(request.seed + k) % (MAX_SEED + 1) for k in range(request.num_images)]
