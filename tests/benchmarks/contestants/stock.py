"""The stock pipeline of diffusers, as its documentation runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from benchmarks.contestants.ours import bytes_of
from benchmarks.task import Done, Precision, Task
from benchmarks.weights import (
    Weights,
    empty_encoder,
    empty_transformer,
    empty_vae,
    filled,
)


class Stock:
    """``QwenImageEditPlusPipeline`` on the shared weights, all of them on the device."""

    name = "stock diffusers"
    precision: Precision = "bf16"
    whole = False

    def __init__(self, weights: Weights) -> None:
        self._device = weights.device
        self.pipeline = make_pipeline(weights)

    @property
    def weight_bytes(self) -> int:
        own = self.pipeline
        return sum(map(bytes_of, (own.transformer, own.text_encoder, own.vae)))

    @torch.inference_mode()
    def edit(self, task: Task, on_step: Callable[[], None]) -> Done:
        def told(_pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step()
            return tensors

        guided = task.guidance > 1
        with _references_of(task.scale.side**2):
            picture = self._picture(task, told, guided)
        return Done(picture.permute(1, 2, 0).float().cpu(), self.said())

    def _picture(self, task: Task, told: Callable[..., Any], guided: bool) -> Any:
        return self.pipeline(
            image=[Image.fromarray(pixels) for pixels in task.pictures],
            prompt=task.prompt,
            true_cfg_scale=task.guidance,
            num_inference_steps=task.steps,
            width=task.scale.side,
            height=task.scale.side,
            generator=torch.Generator(self._device).manual_seed(task.number),
            output_type="pt",
            callback_on_step_end=told,
            # The pipeline says so when there is a negative prompt without guidance.
            **({"negative_prompt": " "} if guided else {}),
        ).images[0]

    def said(self) -> dict[str, Any]:
        """What a table says of how it works."""
        return {}


@contextmanager
def _references_of(area: int) -> Iterator[None]:
    """The pipeline encodes references at one area, whatever size is asked for: here at ``area``."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as module

    usual = module.VAE_IMAGE_SIZE
    module.VAE_IMAGE_SIZE = area
    try:
        yield
    finally:
        module.VAE_IMAGE_SIZE = usual


def make_pipeline(weights: Weights) -> Any:
    """The pipeline over modules of its own, whose weights are the shared ones."""
    from diffusers import QwenImageEditPlusPipeline

    scale = weights.scale
    pipeline = QwenImageEditPlusPipeline(
        weights.scheduler,
        filled(empty_vae(scale), weights.vae),
        filled(empty_encoder(weights.encoder_config), weights.encoder),
        weights.processor.tokenizer,
        weights.processor,
        filled(empty_transformer(scale), weights.transformer),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
