"""ComfyUI's layers for models that were not written for it.

A layer of ComfyUI's kind can stay in main memory and come to the device when it computes, carry
LoRA patches, and hold weights in a quantised format. The models keep their own classes; of their
layers the class is exchanged, so that the mathematics stays what it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from torch import Tensor, nn

from ...pipeline.errors import BrokenModelError
from ...pipeline.host import Storage
from ...pipeline.local.gguf_files import is_gguf
from . import gguf_layers
from .packed_sizes import PARTS, check_sizes
from .wrapped import WrappedWeights

_EIGHT_BIT_FORMATS = {"fp8": "float8_e4m3fn", "int8": "int8_tensorwise"}

_BLOCKS = ("transformer_blocks.", "language_model.layers.")
"""Where weights are brought to 8 bits on request: the bulk of them, and what bears it best."""

_MODULATION = (".img_mod.", ".txt_mod.")
"""Never on the device whole, so there is nothing to gain."""

_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)

_FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_ROTATED = 256
"""Channels of an input that ComfyUI's int8 layers can turn together."""

_EMULATED = (*_FP8_FORMATS, "mxfp8", "nvfp4")
"""Formats whose products ComfyUI can be told to compute in full precision."""


class ComfyKit:
    """Builds models from ComfyUI's layers, for computing on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def eight_bit(self) -> Storage | None:
        if self._device.type == "cpu":
            return None
        return "fp8" if comfy.model_management.supports_fp8_compute(self._device) else "int8"

    def multiplied(self, module: nn.Module) -> float:
        """The share of the packed weights in ``module`` that are multiplied as they lie.

        The others are unpacked for every product, which costs time instead of saving it.
        """
        native, packed = 0, 0
        for layer in module.modules():
            weight: Any = layer._parameters.get("weight")
            if isinstance(weight, QuantizedTensor) or _is_fp8(weight):
                packed += weight.numel()
                native += weight.numel() * _multiplies(layer)
        return native / packed if packed else 0.0

    def read(self, file: Path) -> dict[str, Tensor]:
        if is_gguf(file):
            return gguf_layers.read(file)
        found, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
        mark = next((key for key in found if key.endswith("scaled_fp8")), "scaled_fp8")
        prefix = mark.removesuffix("scaled_fp8")
        tensors, _ = comfy.utils.convert_old_quants(found, model_prefix=prefix, metadata=metadata)
        _check_formats(file.name, tensors)
        return dict(tensors)

    def fill(
        self,
        module: nn.Module,
        tensors: dict[str, Tensor],
        dtype: torch.dtype,
        storage: Storage,
        check: Callable[[], None],
    ) -> None:
        for name, layer in list(module.named_modules()):
            check()
            if isinstance(layer, nn.Linear):
                _check_packed(name, layer, tensors)
                self._prepare(name, layer, tensors, dtype, storage)
            if f"{name}.comfy_quant" in tensors:
                module.set_submodule(name, self._quantised(layer, dtype), strict=True)
            else:
                for key in [f"{name}.{own}" for own in _parameters(layer)]:
                    tensors[key] = _cast(layer, tensors[key], dtype, storage)
                _adopt(layer, tensors.get(f"{name}.weight"))
        module.load_state_dict(tensors, strict=False, assign=True)
        tensors.clear()

    def _prepare(
        self,
        name: str,
        layer: nn.Linear,
        tensors: dict[str, Tensor],
        dtype: torch.dtype,
        storage: Storage,
    ) -> None:
        """Bring the weight of ``layer`` to the storage asked for, if it is not stored so."""
        quantised = f"{name}.comfy_quant" in tensors
        if quantised and storage == "full":
            _replace(name, tensors, {"weight": self._dequantised(name, layer, tensors, dtype)})
        elif not quantised and storage in _EIGHT_BIT_FORMATS and _is_bulk(name):
            weight = tensors[f"{name}.weight"].to(self._device, dtype)
            _replace(name, tensors, _quantise(weight, _EIGHT_BIT_FORMATS[storage]))

    def _dequantised(
        self, name: str, layer: nn.Linear, tensors: dict[str, Tensor], dtype: torch.dtype
    ) -> Tensor:
        holder = self._quantised(layer, dtype)
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.rpartition(".")[0] == name
        }
        holder.load_state_dict(own, strict=False, assign=True)
        weight: Tensor = holder.weight.dequantize()
        smoothing = own.get("pre_quant_scale")
        if smoothing is not None:
            # The layer would have multiplied its input by it.
            weight = weight * smoothing.to(weight)
        return weight.to(dtype)

    def _quantised(self, layer: nn.Linear, dtype: torch.dtype) -> Any:
        made = _quantised_linear(self._device, dtype)
        return made(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=dtype)


@cache
def _quantised_linear(device: torch.device, dtype: torch.dtype) -> Any:
    """ComfyUI's linear layer for quantised weights; what the device cannot compute is emulated."""
    emulated = {form for form in _EMULATED if not computes_in(form, device)}
    own = comfy.ops.mixed_precision_ops({}, dtype, disabled=emulated).Linear
    return type("QuantisedLinear", (_ScaledInput, WrappedWeights, own), {})


def computes_in(form: str, device: torch.device) -> bool:
    """Whether ``device`` multiplies matrices of one of ComfyUI's formats without unpacking them."""
    manager = comfy.model_management
    if form not in _EMULATED:
        return True  # int8: ComfyUI has a product for every device
    if device.type == "cpu":
        return False
    if form in _FP8_FORMATS:
        return bool(manager.supports_fp8_compute(device))
    if form == "mxfp8":
        return bool(manager.supports_mxfp8_compute(device))
    return bool(manager.supports_nvfp4_compute(device))


def _multiplies(layer: nn.Module) -> bool:
    """Whether ``layer`` goes into a product as it lies: its file may forbid what a device can."""
    form = getattr(layer, "quant_format", None)
    if form is None:
        return False
    return form not in _EMULATED or not layer._full_precision_mm


class _ScaledInput:
    """Mixed into ComfyUI's linear layer, brings inputs into the range of fp8.

    Files seldom say how large a layer's inputs are, and ComfyUI then takes a scale of one, which
    cuts off everything beyond 448. The activations of this model go far beyond that.
    """

    def forward(self: Any, input: Tensor, *rest: Any, **named: Any) -> Any:  # noqa: A002 - torch's
        if not self._lacks_scale():
            return super().forward(input, *rest, **named)  # type: ignore[misc]
        rows = input.reshape(-1, input.shape[-1])
        packed = QuantizedTensor.from_float(rows, self.layout_type, scale=_scale(rows))
        result = super().forward(packed, *rest, **named)  # type: ignore[misc]
        return result.reshape(*input.shape[:-1], result.shape[-1])

    def _lacks_scale(self: Any) -> bool:
        """Whether ComfyUI would multiply in fp8 and does not know the scale of the input."""
        return (
            getattr(self, "quant_format", None) in _FP8_FORMATS
            and getattr(self, "input_scale", None) is None
            and not (self._full_precision_mm or getattr(self, "comfy_force_cast_weights", False))
            and not (self.weight_function or self.bias_function)
        )


def _scale(values: Tensor) -> Tensor:
    """What takes the largest of ``values`` to the largest number of fp8."""
    least, most = torch.aminmax(values)
    largest = torch.maximum(-least, most).float()
    # The smallest scale that has a reciprocal; only zeros have a smaller one.
    return (largest / torch.finfo(torch.float8_e4m3fn).max).clamp(min=1e-12)


def _check_formats(file: str, tensors: dict[str, Tensor]) -> None:
    for key, value in tensors.items():
        if not key.endswith(".comfy_quant"):
            continue
        try:
            found = _marked(value)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BrokenModelError(f"{file} has an unreadable {key}.", _OTHER_FILE) from error
        if found not in QUANT_ALGOS:
            raise BrokenModelError(
                f"{file} is quantised as {found}, which this ComfyUI does not know.",
                f"Update ComfyUI. {_OTHER_FILE}",
            )


def _marked(mark: Tensor) -> Any:
    """The format that a layer's ``comfy_quant`` names."""
    return json.loads(mark.numpy().tobytes())["format"]


def _check_packed(name: str, layer: nn.Linear, tensors: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` where a quantised layer's tensors do not fit it or each other."""
    mark = tensors.get(f"{name}.comfy_quant")
    if mark is not None:
        own = {part: tensors.get(f"{name}.{part}") for part in PARTS}
        check_sizes(_marked(mark), layer.out_features, layer.in_features, own)


_OTHER_FILE = "Or use the bf16 or fp8 file of FireRed-Image-Edit-1.1."


def _is_bulk(name: str) -> bool:
    return name.startswith(_BLOCKS) and not any(part in f".{name}." for part in _MODULATION)


def _quantise(weight: Tensor, kind: str) -> dict[str, Tensor]:
    """``weight`` (out, in) in one of ComfyUI's formats, as its files hold it."""
    layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
    rotation = _rotation(weight, kind)
    rows = {"per_channel": True} if kind == _EIGHT_BIT_FORMATS["int8"] else {}
    found = QuantizedTensor.from_float(weight, layout, scale="recalculate", **rows, **rotation)
    stored = {key: tensor.to("cpu") for key, tensor in found.state_dict("weight").items()}
    told = json.dumps({"format": kind, **rotation}).encode()
    return {**stored, "comfy_quant": torch.tensor(list(told), dtype=torch.uint8)}


def _rotation(weight: Tensor, kind: str) -> dict[str, Any]:
    """Options that spread what is large in an input over its neighbours before it is rounded.

    In int8 the largest channel of a token sets the step for all of them, and this model has a few
    that are hundreds of times larger; in fp8 each number has its own exponent.
    """
    fits = weight.shape[1] % _ROTATED == 0
    if kind != _EIGHT_BIT_FORMATS["int8"] or not fits:
        return {}
    return {"convrot": True, "convrot_groupsize": _ROTATED}


def _replace(name: str, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Put ``own`` in the place of everything but the bias of the layer ``name``."""
    for key in [key for key in tensors if key.rpartition(".")[0] == name]:
        if not key.endswith(".bias"):
            del tensors[key]
    tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}


def _cast(layer: nn.Module, tensor: Tensor, dtype: torch.dtype, storage: Storage) -> Tensor:
    """Weights of linear layers may stay in plain fp8 or packed; the rest computes as it lies."""
    stays = storage != "full" and isinstance(layer, nn.Linear) and tensor.ndim == 2
    if gguf_layers.is_packed(tensor):
        packed = gguf_layers.computing_in(tensor, dtype)
        return packed if stays else packed.dequantize()
    return tensor if stays and _is_fp8(tensor) else tensor.to(dtype)


def _is_fp8(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype in _FP8


def _parameters(layer: nn.Module) -> list[str]:
    """Names of the parameters that ``layer`` itself holds."""
    return [name for name, _ in layer.named_parameters(recurse=False)]


def _adopt(layer: nn.Module, weight: Tensor | None) -> None:
    """Exchange the class of ``layer`` for one that ComfyUI can stream, where it has weights."""
    own = _parameters(layer)
    if not own:
        return
    if gguf_layers.is_packed(weight):
        layer.__class__ = gguf_layers.PackedLinear
        return
    kind: Any = type(layer)
    layer.__class__ = _streamed(kind, _is_fp8(weight), "weight" in own)
    if not hasattr(layer, "bias"):
        layer.register_parameter("bias", None)


@cache
def _streamed(kind: Any, casts: bool, weighted: bool) -> type[nn.Module]:
    """ComfyUI's own class where it has an equal, else one made from ``kind``."""
    own = comfy.ops.manual_cast if casts else comfy.ops.disable_weight_init
    for name in ("Linear", "LayerNorm", "Embedding", "Conv2d", "Conv3d"):
        if kind is getattr(nn, name):
            found: type[nn.Module] = getattr(own, name)
            return found
    base = _Streamed if weighted else _Following
    return type(f"{base.__name__}{kind.__name__}", (base, kind), {})


class _Streamed(comfy.ops.CastWeightBiasOp, nn.Module):
    """Lends a layer its weights on the input's device for the time of one call."""

    def forward(self, input: Tensor, *rest: Any, **named: Any) -> Any:  # noqa: A002 - torch's name
        comfy.ops.run_every_op()
        if not (self.comfy_cast_weights or self.weight_function or self.bias_function):
            return super().forward(input, *rest, **named)
        own = self.weight.dtype
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, dtype=own, bias_dtype=own, device=input.device, offloadable=True
        )
        with lent(self, {"weight": weight} if bias is None else {"weight": weight, "bias": bias}):
            result = super().forward(input, *rest, **named)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return result


class _Following(nn.Module):
    """Lends a layer its few parameters on the input's device; they carry no patches."""

    def forward(self, input: Tensor, *rest: Any, **named: Any) -> Any:  # noqa: A002 - torch's name
        moved = {
            name: parameter.to(input.device)
            for name, parameter in self.named_parameters(recurse=False)
            if parameter.device != input.device
        }
        with lent(self, moved):
            return super().forward(input, *rest, **named)


@contextmanager
def lent(layer: nn.Module, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Within this context ``layer`` has ``tensors`` in the place of its own parameters."""
    own = layer._parameters
    kept = {name: own[name] for name in tensors}
    own.update(cast(dict[str, nn.Parameter], tensors))  # plain tensors serve for one call
    try:
        yield
    finally:
        own.update(kept)
