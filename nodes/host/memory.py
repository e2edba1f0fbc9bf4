"""ComfyUI's model manager decides what is on the GPU; these modules are its guests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn

from ...pipeline.errors import SetupError
from ...pipeline.host import Handle


class _Holder(nn.Module):
    """ComfyUI writes ``device`` on a module it manages; on diffusers' models that is read-only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = module
        self.device: torch.device | None = None


class ManagedModule:
    """A module registered with ComfyUI: it is loaded, evicted and freed with all others."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        # Not the dynamic kind: it streams ComfyUI's own layers, but never evicts plain torch ones.
        self.patcher = comfy.model_patcher.ModelPatcher(
            _Holder(module).eval(),
            load_device=compute_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )


def load(handles: Sequence[Handle], activation_bytes: int) -> None:
    """Bring modules to the GPU whole, evicting others, with ``activation_bytes`` left free.

    Raises ``SetupError`` where ComfyUI was started so that it keeps models on the CPU.
    """
    patchers = [cast(ManagedModule, handle).patcher for handle in handles]
    # Plain torch layers cannot run half on the CPU, so a part of a module is of no use.
    comfy.model_management.load_models_gpu(
        patchers, memory_required=activation_bytes, force_full_load=True
    )
    wanted = compute_device().type
    for handle in handles:
        if next(handle.module.parameters()).device.type != wanted:
            raise SetupError(
                "ComfyUI's low-memory setting keeps the model off the GPU.",
                "Start ComfyUI without --novram, or use FireRed Edit (fal).",
            )


def compute_device() -> torch.device:
    device: torch.device = comfy.model_management.get_torch_device()
    return device


def image_device() -> torch.device:
    """Where ComfyUI expects pictures between nodes."""
    device: torch.device = comfy.model_management.intermediate_device()
    return device


def image_dtype() -> torch.dtype:
    """The dtype ComfyUI expects pictures in between nodes."""
    dtype: torch.dtype = comfy.model_management.intermediate_dtype()
    return dtype
