"""LoRA files, read by ComfyUI's own reader and carried by its model manager."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import comfy.lora
import comfy.lora_convert
import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoHaAdapter, LoKrAdapter, LoRAAdapter
from torch import Tensor

from ...pipeline.errors import BrokenModelError
from ...pipeline.host import Handle, LoraResult
from .memory import PREFIX, ManagedModule

ALIASES = (
    "diffusion_model.{dotted}",
    "transformer.{dotted}",
    "{dotted}",
    "base_model.model.{dotted}",
    "lora_unet_{flat}",
    "lycoris_{flat}",
)
"""What trainers call a layer: ComfyUI and DiffSynth, diffusers, Lightning, PEFT, kohya, LyCORIS."""

_NOT_WHOLE = (LookupError, AttributeError, TypeError, ValueError, RuntimeError, ArithmeticError)
"""What ComfyUI's reader meets where one of a layer's tensors is missing or has other axes."""

_TENSOR_OF_A_LAYER = re.compile(
    r"\.(lora_(A|B|up|down|mid)(\.\w+)?(\.weight)?|lora\.(up|down)\.weight|alpha|dora_scale"
    r"|lokr_\w+|hada_\w+|diff|diff_b|w_norm|b_norm|set_weight)$"
)


def add_lora(handles: Sequence[Handle], file: Path, strength: float) -> LoraResult:
    """``handles`` with the layers of ``file`` added at ``strength``, as new handles.

    The modules are shared; ComfyUI's manager applies the patches when it loads a handle and takes
    them away when it loads another. Raises ``BrokenModelError`` for what is no safetensors file.
    """
    tensors = _read(file)
    total = len({_TENSOR_OF_A_LAYER.sub("", key) for key in tensors})
    matched = 0
    added = []
    for handle in handles:
        managed = cast(ManagedModule, handle)
        patcher = managed.patcher.clone()
        found = _patches(file, patcher, tensors)
        # A weight and its bias are one layer.
        matched += len({key.rpartition(".")[0] for key in patcher.add_patches(found, strength)})
        added.append(ManagedModule(managed.module, patcher))
    return LoraResult(tuple(added), matched, total)


def _read(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix not in (".safetensors", ".sft"):
            raise ValueError("only safetensors files are read")
        found: Mapping[str, Tensor] = comfy.utils.load_torch_file(str(file), safe_load=True)
    except Exception as error:  # the reader raises its library's own errors
        raise BrokenModelError(
            f"{file.name} is not a readable safetensors file.",
            "Download it again, or choose another LoRA.",
        ) from error
    return cast(Mapping[str, Tensor], comfy.lora_convert.convert_lora(found))


def _patches(file: Path, patcher: ModelPatcher, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Patches of ``tensors`` by the weight they belong to; those of another shape are left out."""
    shapes = {key: tuple(weight.shape) for key, weight in _weights(patcher).items()}
    try:
        found = comfy.lora.load_lora(tensors, _key_map(shapes), log_missing=False)
        return {key: patch for key, patch in found.items() if _fits(patch, shapes.get(key))}
    except _NOT_WHOLE as error:
        raise BrokenModelError(
            f"{file.name} has layers that are not whole.", "Download it again, or choose another."
        ) from error


def _weights(patcher: ModelPatcher) -> dict[str, Tensor]:
    named = patcher.model.named_parameters()
    return {key: weight for key, weight in named if key.endswith((".weight", ".bias"))}


def _key_map(keys: Mapping[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for key in keys:
        if key.endswith(".weight"):
            dotted = key.removeprefix(PREFIX).removesuffix(".weight")
            flat = dotted.replace(".", "_")
            names |= {alias.format(dotted=dotted, flat=flat): key for alias in ALIASES}
    return names


def _fits(patch: Any, shape: tuple[int, ...] | None) -> bool:
    """Whether ``patch`` is made for a weight of ``shape``; ComfyUI would only log a misfit."""
    return shape is not None and _shape(patch) in (None, shape)


def _shape(patch: Any) -> tuple[int, ...] | None:
    """The shape of the weight that ``patch`` changes; None for kinds that tell only ComfyUI."""
    match patch:
        case ("diff" | "set", (Tensor() as whole, *_)):
            return tuple(whole.shape)
        case LoRAAdapter():
            up, down, *_ = patch.weights
            if up.shape[1] != down.shape[0] or not down.shape[0]:
                return ()  # no product: of no weight at all
            return (up.shape[0], down.shape[1:].numel())
        case LoKrAdapter():
            outer, inner, _, outer_a, outer_b, inner_a, inner_b, *_ = patch.weights
            pairs = zip(_of(outer, outer_a, outer_b), _of(inner, inner_a, inner_b), strict=True)
            return tuple(one * other for one, other in pairs)
        case LoHaAdapter():
            rows, columns, *_ = patch.weights
            return (rows.shape[0], columns.shape[1])
    return None


def _of(whole: Tensor | None, rows: Tensor, columns: Tensor) -> tuple[int, int]:
    """Rows and columns of a matrix, or of the product of two."""
    if whole is not None:
        return (whole.shape[0], whole.shape[1:].numel())
    return (rows.shape[0], columns.shape[1:].numel())
