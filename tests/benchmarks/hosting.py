"""The pack's local engine at home: inside ComfyUI's own modules, or on plain torch without them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from benchmarks.weights import Weights, empty_transformer, empty_vae, without_memory
from support.inside import InsideHost
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.host import PlainHost, Storage  # noqa: E402 - needs the pack
from firered_edit.pipeline.local.autoencoder import with_still_convolutions  # noqa: E402
from firered_edit.pipeline.local.caches import Cache  # noqa: E402
from firered_edit.pipeline.local.model import FireRedModel  # noqa: E402
from firered_edit.pipeline.local.modulation import take_out  # noqa: E402

if TYPE_CHECKING:
    from firered_edit.pipeline.host import LocalHost

logger = logging.getLogger(__name__)

Home = Literal["comfyui", "plain"]


class _Watching(PlainHost):
    """Passes every step on, and keeps what the last one came to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.on_step: Callable[[], None] = lambda: None
        self.keeps = False
        self.latents: torch.Tensor | None = None

    def preview(self, estimate: Callable[[], torch.Tensor]) -> None:
        # After the last step the estimate is the result.
        self.latents = estimate() if self.keeps else None

    def progress(self, value: int, total: int) -> None:
        if value:
            self.on_step()


class ComfyBenchHost(_Watching, InsideHost):
    """ComfyUI's layers, kernels and memory manager."""


class PlainBenchHost(_Watching):
    """Torch alone; there is no 8-bit arithmetic."""


def make_host(home: Home, device: torch.device, folder: Path) -> ComfyBenchHost | PlainBenchHost:
    """A host on ``device``; ``folder`` holds the tokenizer, which nobody will read."""
    if home == "plain":
        return PlainBenchHost(device)
    return ComfyBenchHost(folder, device=str(device))


def available_home(device: torch.device) -> Home:
    """ComfyUI where it can be had, with everything it needs."""
    try:
        make_host("comfyui", device, Path())
    except Exception as error:  # noqa: BLE001 - it may be missing in part, whole, or out of reach
        logger.warning("ComfyUI cannot be loaded, so ours runs on plain torch: %s", error)
        return "plain"
    return "comfyui"


def eight_bit(host: LocalHost) -> Storage | None:
    """The 8-bit storage that suits the device; on a CPU, which has none, int8 is unpacked."""
    if isinstance(host, PlainBenchHost):
        return None
    return host.layers.eight_bit or "int8"


def load_model(weights: Weights, host: LocalHost, storage: Storage) -> FireRedModel:
    """A model as the loader node makes it, of weights that are there already."""
    with torch.inference_mode(False):
        transformer = empty_transformer(weights.scale)
        encoder = _headless_encoder(weights)
        vae = with_still_convolutions(empty_vae(weights.scale))
        own = {
            key.removeprefix("model."): tensor
            for key, tensor in weights.encoder.items()
            if not key.startswith("lm_head")
        }
        # The modulation is never on the device whole; the encoder is kept as its files are.
        modules = ((transformer, weights.transformer), (encoder, own), (vae, weights.vae))
        for module, tensors in modules:
            kept: Storage = "full" if module is vae else storage
            host.layers.fill(module, dict(tensors), weights.dtype, kept, lambda: None)
            module.requires_grad_(False)
        modulation = take_out(transformer)
        if not isinstance(host, PlainBenchHost):
            modulation.to("cpu")
    return FireRedModel(
        name="random weights",
        transformer=host.manage(transformer),
        modulation=host.manage(modulation),
        text_encoder=host.manage(encoder),
        vae=host.manage(vae),
        scheduler=weights.scheduler,
        processor=weights.processor,
        dtype=weights.dtype,
        precision=str(storage),
        cache=Cache(),
    )


def _headless_encoder(weights: Weights) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

    config = Qwen2_5_VLConfig.from_dict(weights.encoder_config)
    return without_memory(lambda: Qwen2_5_VLModel(config))
