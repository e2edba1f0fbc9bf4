"""Layers whose weights stay packed as in a GGUF file, wherever they are, until they compute.

A packed weight is one of ComfyUI's quantised tensors, of a layout made here: ComfyUI moves, streams
and counts it as any other. Unlike ComfyUI's own layouts nothing can be packed again, so LoRA
patches are never merged into a weight; they are added each time it is unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.ops
import torch
from comfy.model_patcher import LowVramPatch, ModelPatcher
from comfy.quant_ops import QuantizedLayout, QuantizedTensor, register_layout_class
from torch import Tensor, nn

from ...pipeline.local import gguf_files
from .wrapped import WrappedWeights

_LAYOUT = "FireRedGGUFLayout"


@dataclass(frozen=True)
class _Params:
    """What ComfyUI's quantised tensors keep beside their data. Here none of it is a tensor."""

    orig_dtype: torch.dtype
    orig_shape: tuple[int, ...]
    kind: str

    def to_device(self, device: torch.device) -> _Params:
        return self

    def clone(self) -> _Params:
        return self

    def copy_from(self, src: _Params, non_blocking: bool = False) -> None:
        """Data is only ever copied between places of one weight."""


class _Layout(QuantizedLayout):
    Params = _Params

    @classmethod
    def quantize(cls, tensor: Tensor, **kwargs: Any) -> tuple[Tensor, _Params]:
        raise NotImplementedError("weights of GGUF files are never packed anew")

    @classmethod
    def dequantize(cls, qdata: Tensor, params: _Params) -> Tensor:
        return gguf_files.unpack(qdata, params.kind, params.orig_shape, params.orig_dtype)

    @classmethod
    def get_plain_tensors(cls, qtensor: Any) -> tuple[Tensor, ...]:
        return (qtensor._qdata,)

    @classmethod
    def state_dict_tensors(cls, qdata: Tensor, params: _Params) -> dict[str, Tensor]:
        return {"": qdata}


register_layout_class(_LAYOUT, _Layout)


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a GGUF file; what is packed stays so, and stays in the file for now."""
    found = gguf_files.read_tensors(file).items()
    return {
        name: _packed(tensor.data, _Params(torch.float32, tensor.shape, tensor.kind))
        if isinstance(tensor, gguf_files.Packed)
        else tensor
        for name, tensor in found
    }


def _packed(data: Tensor, params: _Params) -> Tensor:
    packed: Tensor = QuantizedTensor(data, _LAYOUT, params)
    return packed


def is_packed(tensor: object) -> bool:
    return isinstance(tensor, QuantizedTensor) and isinstance(tensor.params, _Params)


def computing_in(packed: Any, dtype: torch.dtype) -> Tensor:
    """The same packed weight, not copied, which gives ``dtype`` when it is unpacked."""
    params = packed.params
    return _packed(packed._qdata, _Params(dtype, params.orig_shape, params.kind))


class PackedLinear(WrappedWeights, comfy.ops.disable_weight_init.Linear):
    """A linear layer that unpacks its weight for each call and forgets it again."""

    comfy_cast_weights = True

    def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:  # noqa: A002 - ComfyUI's name
        weight, bias, stream = comfy.ops.cast_bias_weight(self, input, offloadable=True)
        plain = weight.dequantize() if is_packed(weight) else weight
        result = nn.functional.linear(input, plain, bias)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return result

    def convert_weight(self, weight: Any, inplace: bool = False, **others: Any) -> Tensor:
        """What ComfyUI's patcher asks for before it adds patches."""
        plain: Tensor = weight.dequantize()
        return plain


def has_packed_layers(module: nn.Module) -> bool:
    return any(isinstance(layer, PackedLinear) for layer in module.modules())


class PackedPatcher(ModelPatcher):
    """ComfyUI's model manager for packed layers, whose patches are added as they compute.

    Not its dynamic kind, which writes patched weights back in the format they came in.
    """

    def patch_weight_to_device(
        self,
        key: str,
        device_to: torch.device | None = None,
        inplace_update: bool = False,
        return_weight: bool = False,
        force_cast: bool = False,
    ) -> Tensor | None:
        if not return_weight and self._is_packed(key):
            return None
        patched: Tensor | None = super().patch_weight_to_device(
            key, device_to, inplace_update, return_weight, force_cast
        )
        return patched

    def load(self, *arguments: Any, **named: Any) -> None:
        super().load(*arguments, **named)
        self._attach_patches()

    def partially_unload(self, *arguments: Any, **named: Any) -> int:
        freed: int = super().partially_unload(*arguments, **named)
        self._attach_patches()
        return freed

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        super().unpatch_model(device_to, unpatch_weights)
        if unpatch_weights:
            for _, layer in self._packed_layers():
                layer.weight_function = []

    def _attach_patches(self) -> None:
        """Let every packed layer add its patches, once, wherever its weight lies now."""
        for key, layer in self._packed_layers():
            patches = [LowVramPatch(key, self.patches)] if key in self.patches else []
            layer.weight_function = patches

    def _packed_layers(self) -> Iterator[tuple[str, PackedLinear]]:
        for name, layer in self.model.named_modules():
            if isinstance(layer, PackedLinear):
                yield f"{name}.weight", layer

    def _is_packed(self, key: str) -> bool:
        name, _, own = key.rpartition(".")
        return own == "weight" and isinstance(self.model.get_submodule(name), PackedLinear)
