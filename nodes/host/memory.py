"""ComfyUI's model manager decides what is on the GPU; these modules are its guests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import cast

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...pipeline.host import Handle
from .gguf_layers import PackedPatcher, has_packed_layers
from .layers import lent

PREFIX = "diffusion_model."
"""What ComfyUI and every LoRA put before the names of a model's layers."""


class _Holder(nn.Module):
    """ComfyUI writes ``device`` on a module it manages; on diffusers' models that is read-only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = module
        self.device: torch.device | None = None


def _holder(module: nn.Module) -> nn.Module:
    """A holder whose class says in ComfyUI's log what is being loaded."""
    named = type(f"FireRed{type(module).__name__}", (_Holder,), {})
    holder: nn.Module = named(module).eval()
    return holder


class ManagedModule:
    """A module registered with ComfyUI: it is loaded, evicted and freed with all others."""

    def __init__(self, module: nn.Module, patcher: ModelPatcher | None = None) -> None:
        self.module = module
        packed = has_packed_layers(module)
        kind = PackedPatcher if packed else comfy.model_patcher.CoreModelPatcher
        self.patcher = patcher or kind(
            _holder(module),
            load_device=compute_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )

    @property
    def managed(self) -> object:
        return self.patcher

    @property
    def version(self) -> str:
        return str(self.patcher.patches_uuid) if self.patcher.patches else ""

    @property
    def loaded_bytes(self) -> int:
        """Bytes of weights on the device now, by ComfyUI's count."""
        return int(self.patcher.loaded_size())

    def key(self, layer: nn.Module) -> str:
        """What the patcher calls ``layer``."""
        return f"{PREFIX}{self._names[layer]}"

    @cached_property
    def _names(self) -> dict[nn.Module, str]:
        return {layer: name for name, layer in self.module.named_modules()}


def load(handles: Sequence[Handle], activation_bytes: int) -> None:
    """Bring modules to the device, evicting others, with ``activation_bytes`` left free.

    Layers that do not fit stay in main memory and are streamed when they compute.
    """
    patchers = [cast(ManagedModule, handle).patcher for handle in handles]
    # Quantised parameters are made outside inference mode, and then cannot be moved within it.
    with torch.inference_mode(False), torch.no_grad():
        comfy.model_management.load_models_gpu(patchers, memory_required=activation_bytes)
        for handle in handles:
            _bring_buffers(handle.module)


def _bring_buffers(module: nn.Module) -> None:
    """A partly loaded module is moved by its weights only; its small constants must follow."""
    device = compute_device()
    for child in module.modules():
        for name, buffer in child._buffers.items():
            if buffer is not None and buffer.device != device:
                child._buffers[name] = buffer.to(device)


@contextmanager
def borrowed(handle: Handle, layer: nn.Module) -> Iterator[None]:
    """Within this context ``layer`` is on the device with its patches, and nothing else is."""
    managed = cast(ManagedModule, handle)
    with ExitStack() as stack:
        for part in layer.modules():
            moved = {
                own: _on_device(managed.patcher, f"{managed.key(part)}.{own}", parameter)
                for own, parameter in part.named_parameters(recurse=False)
            }
            stack.enter_context(lent(part, moved))
        yield


def _on_device(patcher: ModelPatcher, key: str, parameter: nn.Parameter) -> torch.Tensor:
    device = compute_device()
    if key not in patcher.patches or key in patcher.backup:
        # Nothing to add, or added when the module was loaded.
        return parameter.to(device)
    patched: torch.Tensor = patcher.patch_weight_to_device(
        key, device_to=device, return_weight=True
    )
    return patched


def compute_device() -> torch.device:
    device: torch.device = comfy.model_management.get_torch_device()
    return device


def total_memory() -> int:
    """Bytes of the device in all."""
    return int(comfy.model_management.get_total_memory(compute_device()))


def image_device() -> torch.device:
    """Where ComfyUI expects pictures between nodes."""
    device: torch.device = comfy.model_management.intermediate_device()
    return device


def image_dtype() -> torch.dtype:
    """The dtype ComfyUI expects pictures in between nodes."""
    dtype: torch.dtype = comfy.model_management.intermediate_dtype()
    return dtype
