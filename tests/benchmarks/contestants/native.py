"""ComfyUI's own modules with the settings of its FireRed blueprint, on the same weights.

Transformer, sampler and VAE are ComfyUI's. The prompt is read by the encoder that the others share:
ComfyUI's own cannot be built small, and reading is less than a hundredth of an edit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.contestants.ours import bytes_of
from benchmarks.task import Done, Precision, Task
from benchmarks.weights import Tensors, Weights, empty_encoder, filled
from doubles.tiny_files import write_vae
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local.encoding import encode_prompt  # noqa: E402 - needs the pack

SHIFT = 3.1
CONDITION_SIDE = 384


class Native:
    """Needs ComfyUI in this process. ``quantised`` weights stand in for those of the same name."""

    name = "ComfyUI native"
    whole = False

    def __init__(self, weights: Weights, quantised: Tensors | None = None) -> None:
        self.precision: Precision = "bf16" if quantised is None else "8-bit"
        self._device = weights.device
        self._processor = weights.processor
        self._encoder = filled(empty_encoder(weights.encoder_config), weights.encoder).model
        self._vae = _vae(weights)
        model = _model(weights, quantised)
        self._transformer = model.model.diffusion_model
        self._model = _patched(model)

    @property
    def weight_bytes(self) -> int:
        parts = (self._transformer, self._encoder, self._vae.first_stage_model)
        return sum(map(bytes_of, parts))

    @torch.inference_mode()
    def edit(self, task: Task, on_step: Callable[[], None]) -> Done:
        import comfy.sample

        self._bring()
        pictures = [torch.from_numpy(pixels).float().div(255)[None] for pixels in task.pictures]
        latent = self._vae.encode(pictures[0])
        positive = self._conditioning(task.prompt, task.pictures, pictures)
        negative = self._conditioning("", task.pictures, pictures)
        samples = comfy.sample.sample(
            self._model,
            comfy.sample.prepare_noise(latent, task.number),
            task.steps,
            task.guidance,
            "euler",
            "simple",
            positive,
            negative,
            torch.zeros_like(latent),
            callback=lambda *_: on_step(),
            disable_pbar=True,
            seed=task.number,
        )
        return Done(self._vae.decode(samples)[0].float().cpu().squeeze(0))

    def _bring(self) -> None:
        """The weights were made outside inference mode, and within it cannot be moved."""
        import comfy.model_management

        with torch.inference_mode(False), torch.no_grad():
            comfy.model_management.load_models_gpu([self._model])

    def _conditioning(self, prompt: str, pixels: list[Any], pictures: list[Tensor]) -> list[Any]:
        """As its text encoding node does, which encodes the pictures once for each prompt."""
        side = (CONDITION_SIDE, CONDITION_SIDE)
        small = [Image.fromarray(each).resize(side) for each in pixels]
        read = encode_prompt(self._encoder, self._processor, prompt, small, self._device)
        references = [self._vae.encode(picture) for picture in pictures]
        return [[read, {"reference_latents": references}]]


def _vae(weights: Weights) -> Any:
    """Its loader takes the names of Wan's VAE, which only lie in files."""
    import comfy.sd
    import comfy.utils

    with tempfile.TemporaryDirectory(prefix="firered-benchmark-") as name:
        folder = Path(name)
        (folder / "vae").mkdir()
        own = {key: tensor.cpu() for key, tensor in weights.vae.items()}
        save_file(own, folder / "vae" / "model.safetensors")
        file = write_vae(folder, folder / "vae.safetensors")
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(file)))


def _model(weights: Weights, quantised: Tensors | None) -> Any:
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.QwenImage(_config(weights.scale.transformer))
    device = torch.device("meta")
    config.set_inference_dtype(weights.dtype, None)
    if quantised is not None:
        # Its layers for quantised weights put what they are given on their own device.
        device = weights.device
        config.set_inference_dtype(weights.dtype, weights.dtype)
        config.quant_config = {"mixed_ops": True}
    model = comfy.model_base.QwenImage(config, device=device)
    tensors = _with(weights.transformer, quantised or {})
    model.diffusion_model.load_state_dict(tensors, strict=False, assign=True)
    model.diffusion_model.requires_grad_(False)
    return comfy.model_patcher.CoreModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def _with(weights: Mapping[str, Tensor], quantised: Mapping[str, Tensor]) -> Tensors:
    replaced = {key for key in quantised if key.endswith(".weight")}
    return {key: value for key, value in weights.items() if key not in replaced} | dict(quantised)


def _config(transformer: Mapping[str, Any]) -> dict[str, Any]:
    others = ("guidance_embeds", "zero_cond_t")
    own = {key: value for key, value in transformer.items() if key not in others}
    return {"image_model": "qwen_image", **own}


def _patched(model: Any) -> Any:
    """The blueprint's two nodes between loader and sampler."""
    from comfy_extras.nodes_cfg import CFGNorm
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

    (shifted,) = ModelSamplingAuraFlow().patch_aura(model, SHIFT)
    return CFGNorm.execute(shifted, 1.0).args[0]
