"""The single files that artists have, made from a tiny model folder, and random LoRAs for it.

One file per model, named and quantised as ComfyUI's own files are. The quantised numbers come from
comfy_kitchen, the library that ComfyUI computes with, and `dequantised` reads them back with it:
what a test compares with shares no code with the pack.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from comfy_kitchen.tensor import QuantizedTensor, get_layout_class
from safetensors.torch import load_file, save_file

Weights: TypeAlias = dict[str, torch.Tensor]
Shape: TypeAlias = tuple[int, int]
Quantisation: TypeAlias = Literal[
    "float8_e4m3fn", "int8_tensorwise", "mxfp8", "nvfp4", "scaled_fp8"
]

# ComfyUI's names of the formats (its QUANT_ALGOS) and comfy_kitchen's of the same.
LAYOUTS = {
    "float8_e4m3fn": "TensorCoreFP8Layout",
    "int8_tensorwise": "TensorWiseINT8Layout",
    "mxfp8": "TensorCoreMXFP8Layout",
    "nvfp4": "TensorCoreNVFP4Layout",
}
OLD_FP8 = "scaled_fp8"
ZERO_COND_T = "__index_timestep_zero__"
NO_WEIGHTS = (".weight_scale", ".weight_scale_2", ".scale_weight", ".comfy_quant")
MARKS = (OLD_FP8, ZERO_COND_T)

# What lies inside these is quantised in the real files: in the text encoder 358 layers, not the
# embeddings and not the language head.
TRANSFORMER_ROOMS = ("transformer_blocks.",)
TEXT_ENCODER_ROOMS = ("model.layers.", "visual.")


def write_transformer(
    folder: Path,
    file: Path,
    *,
    prefix: str = "",
    dtype: torch.dtype | None = None,
    quantisation: Quantisation | None = None,
) -> Path:
    """Write the diffusion transformer of `folder` to `file` and return `file`.

    `dtype` is that of everything that is not quantised, biases and norms too, as in the plain fp8
    files; without it the folder's stays. `prefix` precedes every key.
    """
    weights = _shards(folder / "transformer")
    if quantisation is not None:
        weights = _quantised(weights, TRANSFORMER_ROOMS, quantisation, dtype)
    elif dtype is not None:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
    if json.loads((folder / "transformer/config.json").read_text())["zero_cond_t"]:
        weights[ZERO_COND_T] = torch.tensor([])
    return _save({prefix + name: weight for name, weight in weights.items()}, file)


def write_text_encoder(
    folder: Path, file: Path, *, quantisation: Quantisation | None = None
) -> Path:
    """Write the text encoder of `folder`, with its language head, to `file` and return `file`.

    A folder saved by transformers has ComfyUI's names already. "scaled_fp8" is the form of the real
    `qwen_2.5_vl_7b_fp8_scaled.safetensors`.
    """
    weights = _shards(folder / "text_encoder")
    if quantisation is not None:
        weights = _quantised(weights, TEXT_ENCODER_ROOMS, quantisation)
    return _save(weights, file)


def write_vae(folder: Path, file: Path) -> Path:
    """Write the VAE of `folder` with the names of Wan's to `file` and return `file`."""
    weights = _shards(folder / "vae")
    return _save({_wan_name(name): weight for name, weight in weights.items()}, file)


def move_marks_to_header(file: Path) -> Path:
    """Say which layers of `file` are quantised in its header, the other place ComfyUI looks."""
    weights = load_file(file)
    marks = {name: weights.pop(name) for name in list(weights) if name.endswith(".comfy_quant")}
    layers = {name.removesuffix(".comfy_quant"): _read_mark(mark) for name, mark in marks.items()}
    header = json.dumps({"format_version": "1.0", "layers": layers})
    return _save(weights, file, {"_quantization_metadata": header})


def dequantised(file: Path, *, dtype: torch.dtype = torch.float32) -> Weights:
    """The weights in `file` as plain tensors of `dtype`, without scales and marks.

    Needs the `comfy_quant` tensors or the old form, and widths that no format pads, like the tiny
    model's: a file does not tell the shape before padding.
    """
    stored = load_file(file)
    names = (name for name in stored if not name.endswith(NO_WEIGHTS + MARKS))
    return {name: _dequantised(stored, name, dtype) for name in names}


def _shards(folder: Path) -> Weights:
    files = sorted(folder.glob("*.safetensors"))
    return {name: weight for file in files for name, weight in load_file(file).items()}


def _save(weights: Weights, file: Path, header: dict[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(whole, file, {"format": "pt", **(header or {})})
    return file


def _quantised(
    weights: Weights,
    rooms: tuple[str, ...],
    quantisation: Quantisation,
    dtype: torch.dtype | None = None,
) -> Weights:
    """`weights` with the linear layers inside `rooms` quantised and the rest in `dtype`."""
    form = "float8_e4m3fn" if quantisation == OLD_FP8 else quantisation
    result: Weights = {}
    for name, weight in weights.items():
        # Only linear layers have matrices there: norms are vectors, the patch kernel has five axes.
        if name.startswith(rooms) and weight.ndim == 2:
            result |= _quantised_layer(name, weight, form)
        else:
            result[name] = weight.to(dtype or weight.dtype)
    return _old_form(result) if quantisation == OLD_FP8 else result


def _quantised_layer(name: str, weight: torch.Tensor, form: str) -> Weights:
    # Without the word a scale of one is taken where ComfyUI has put its fp8 layout in place of
    # comfy_kitchen's.
    tensor = QuantizedTensor.from_float(weight, LAYOUTS[form], scale="recalculate")
    mark = json.dumps({"format": form}).encode()
    return {
        **tensor.state_dict(name),
        f"{name.removesuffix('.weight')}.comfy_quant": torch.tensor(list(mark), dtype=torch.uint8),
    }


def _old_form(weights: Weights) -> Weights:
    """Other names for the scales and one mark for the whole file: what ComfyUI converts back."""
    old = {
        name.replace(".weight_scale", ".scale_weight"): weight
        for name, weight in weights.items()
        if not name.endswith(".comfy_quant")
    }
    # Empty; with two elements it would forbid fp8 products.
    return {**old, OLD_FP8: torch.empty(0, dtype=torch.float8_e4m3fn)}


def _dequantised(stored: Weights, name: str, dtype: torch.dtype) -> torch.Tensor:
    layer = name.removesuffix(".weight")
    data = stored[name]
    if f"{layer}.scale_weight" in stored:
        form, scales = "float8_e4m3fn", {"scale": stored[f"{layer}.scale_weight"]}
    elif f"{layer}.comfy_quant" in stored:
        form = _read_mark(stored[f"{layer}.comfy_quant"])["format"]
        scales = _scales(stored, layer)
    else:
        return data.to(dtype)
    layout = get_layout_class(LAYOUTS[form])
    # Two values of nvfp4 share a byte.
    shape = (data.shape[0], data.shape[1] * (2 if form == "nvfp4" else 1))
    params = layout.Params(**scales, orig_dtype=dtype, orig_shape=shape)
    plain: torch.Tensor = QuantizedTensor(data, LAYOUTS[form], params).dequantize()
    return plain


def _scales(stored: Weights, layer: str) -> Weights:
    """The scales of a layer by comfy_kitchen's names; nvfp4 has one per block and one for all."""
    scale = stored[f"{layer}.weight_scale"]
    overall = stored.get(f"{layer}.weight_scale_2")
    return {"scale": scale} if overall is None else {"scale": overall, "block_scale": scale}


def _read_mark(mark: torch.Tensor) -> dict[str, str]:
    content: dict[str, str] = json.loads(mark.numpy().tobytes())
    return content


# The inverse of diffusers' convert_wan_vae_to_diffusers. Wan numbers the layers of each part
# through; only the decoder's blocks are grouped in diffusers: three residual blocks, one upsampler.
WAN_NAMES = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.", ".downsamples."),
)
WAN_RESIDUAL_NAMES = (
    (r"\.norm1\.", ".residual.0."),
    (r"\.conv1\.", ".residual.2."),
    (r"\.norm2\.", ".residual.3."),
    (r"\.conv2\.", ".residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)
UP_BLOCK = r"\.up_blocks\.(\d)\.(?:resnets|upsamplers)\.(\d)\."


def _wan_name(name: str) -> str:
    # Inside residual blocks first: outside of them "conv1" is the name of other layers.
    for pattern, replacement in WAN_RESIDUAL_NAMES + WAN_NAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(UP_BLOCK, _wan_upsample, name)


def _wan_upsample(match: re.Match[str]) -> str:
    block, layer = int(match[1]), int(match[2])
    return f".upsamples.{4 * block + (3 if 'upsamplers' in match[0] else layer)}."


LoraLayout: TypeAlias = Literal[
    "raw peft",
    "raw peft default",
    "diffusers",
    "diffusion_model ab",
    "diffusion_model down up alpha",
    "bare down up alpha",
    "bare down up",
    "bare ab",
    "diffsynth",
    "transformer down up alpha",
    "kohya",
    "lycoris",
    "lokr",
    "lokr transformer",
]
AB = ("lora_A.weight", "lora_B.weight")
AB_DEFAULT = ("lora_A.default.weight", "lora_B.default.weight")
DOWN_UP = ("lora_down.weight", "lora_up.weight")
KRONECKER = ("lokr_w1", "lokr_w2")
KRONECKER_FACTORED = ("lokr_w1", "lokr_w2_a", "lokr_w2_b")
# A LoRA changes a layer by this part of the scale that keeps its input's.
LORA_GAIN = 0.5


@dataclass(frozen=True)
class _Naming:
    prefix: str
    factors: tuple[str, ...]
    alpha: bool = False
    separator: str = "."

    def layer(self, name: str) -> str:
        return self.prefix + name.replace(".", self.separator)


# The first is what FireRed's own training saves, "bare down up alpha" the Lightning files.
NAMINGS: dict[LoraLayout, _Naming] = {
    "raw peft": _Naming("base_model.model.", AB),
    "raw peft default": _Naming("base_model.model.", AB_DEFAULT),
    "diffusers": _Naming("transformer.", AB),
    "diffusion_model ab": _Naming("diffusion_model.", AB),
    "diffusion_model down up alpha": _Naming("diffusion_model.", DOWN_UP, alpha=True),
    "bare down up alpha": _Naming("", DOWN_UP, alpha=True),
    "bare down up": _Naming("", DOWN_UP),
    "bare ab": _Naming("", AB),
    "diffsynth": _Naming("", AB_DEFAULT),
    "transformer down up alpha": _Naming("transformer.", DOWN_UP, alpha=True),
    "kohya": _Naming("lora_unet_", DOWN_UP, alpha=True, separator="_"),
    "lycoris": _Naming("lycoris_", DOWN_UP, alpha=True, separator="_"),
    "lokr": _Naming("lycoris_", KRONECKER, alpha=True, separator="_"),
    "lokr transformer": _Naming("transformer.", KRONECKER_FACTORED, alpha=True),
}


def linear_layers(folder: Path) -> dict[str, Shape]:
    """Every linear layer of the folder's diffusion transformer and the shape of its weight."""
    weights = _shards(folder / "transformer")
    return {
        name.removesuffix(".weight"): (weight.shape[0], weight.shape[1])
        for name, weight in weights.items()
        if weight.ndim == 2
    }


def write_lora(
    file: Path,
    layers: Mapping[str, Shape],
    layout: LoraLayout,
    *,
    rank: int = 4,
    alpha: float | None = None,
    seed: int = 0,
) -> Path:
    """Write a random bf16 LoRA for `layers` (name and shape of the weight) and return `file`.

    `alpha` is the rank unless given, and an error in a layout that has no place for it. "lokr"
    writes it, as LyCORIS does, but it has no effect there: none of the factors has a rank.
    """
    naming = NAMINGS[layout]
    scale = _alpha(naming, rank, alpha)
    weights: Weights = {}
    for name, shape in layers.items():
        layer = naming.layer(name)
        factors = _factors(name, shape, naming, rank, seed)
        parts = zip(naming.factors, factors, strict=True)
        weights |= {f"{layer}.{part}": factor for part, factor in parts}
        if naming.alpha:
            weights[f"{layer}.alpha"] = torch.tensor(scale)
    return _save(weights, file)


def lora_delta(
    layers: Mapping[str, Shape],
    layout: LoraLayout,
    *,
    rank: int = 4,
    alpha: float | None = None,
    seed: int = 0,
) -> Weights:
    """What the LoRA written with the same arguments adds to each layer at strength 1, in fp32."""
    naming = NAMINGS[layout]
    scale = _alpha(naming, rank, alpha) / rank
    return {
        name: _product(_factors(name, shape, naming, rank, seed), naming, scale)
        for name, shape in layers.items()
    }


def merged(
    weights: Mapping[str, torch.Tensor], delta: Mapping[str, torch.Tensor], *, strength: float = 1.0
) -> Weights:
    """`weights` with `strength` times `delta` added, each rounded once to its own dtype."""
    changed = {
        f"{layer}.weight": (weights[f"{layer}.weight"].float() + strength * change).to(
            weights[f"{layer}.weight"].dtype
        )
        for layer, change in delta.items()
    }
    return {**weights, **changed}


def _alpha(naming: _Naming, rank: int, alpha: float | None) -> float:
    if alpha is not None and not naming.alpha:
        raise ValueError("this layout has no alpha")
    return float(rank if alpha is None else alpha)


def _factors(name: str, shape: Shape, naming: _Naming, rank: int, seed: int) -> list[torch.Tensor]:
    """The factors of one layer's change, in the order of the naming's."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    return [
        (spread * torch.randn(size, generator=generator)).bfloat16()
        for size, spread in _plan(shape, naming, rank)
    ]


def _plan(shape: Shape, naming: _Naming, rank: int) -> list[tuple[Shape, float]]:
    """Shape and spread of each factor; the spreads multiply to the gain over the fan-in."""
    rows, columns = shape
    spread, over_rank = LORA_GAIN * columns**-0.5, rank**-0.5
    if naming.factors[0] != "lokr_w1":
        return [((rank, columns), spread), ((rows, rank), over_rank)]
    outer = (math.gcd(rows, 4), math.gcd(columns, 4))
    inner = (rows // outer[0], columns // outer[1])
    if naming.factors == KRONECKER:
        return [(outer, 1.0), (inner, spread)]
    return [(outer, 1.0), ((inner[0], rank), over_rank), ((rank, inner[1]), spread)]


def _product(factors: list[torch.Tensor], naming: _Naming, scale: float) -> torch.Tensor:
    first, *others = (factor.float() for factor in factors)
    if naming.factors == KRONECKER:
        return torch.kron(first, others[0])
    if naming.factors == KRONECKER_FACTORED:
        return torch.kron(first, scale * (others[0] @ others[1]))
    return scale * (others[0] @ first)
