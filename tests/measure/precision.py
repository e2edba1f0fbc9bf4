"""How near weights in 8 bits and fewer come to bf16, by format and by kind of layer.

Random weights that keep the scale of their input, in ComfyUI's own layers as the pack builds them.
One block has the real width (3072): each of its layers sees what it saw in bf16, so that errors do
not add up; shown is the relative error of a token, median and worst. `far` is the layer behind the
activation function with one input channel 2000 times as large, as this model has them. `edit` is
the relative distance of the latents after some steps of a smaller model, where errors do add up.
The row bf16 is against fp32, which rounds no timestep either; all others are against bf16.

`multiplied` means 8-bit products, carried out on the CPU as a card does; `unpacked` means bf16
products. The K formats are rounded to the nearest level; llama.cpp's own files are a little nearer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.inside import InsideHost, bridge
from support.k_quants import KINDS, pack
from support.products import fp8_products

HOST = InsideHost()
LAYERS = bridge().layers

from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402 - ComfyUI's, after bridge()
from diffusers import QwenImageTransformer2DModel  # noqa: E402

from firered_edit.pipeline.local.caches import Cache  # noqa: E402 - the pack is loaded by now
from firered_edit.pipeline.local.model import FireRedModel  # noqa: E402
from firered_edit.pipeline.local.modulation import take_out  # noqa: E402
from firered_edit.pipeline.local.weights import _standard_scheduler  # noqa: E402
from support.denoised import denoised, distance  # noqa: E402

BLOCK = "transformer_blocks."
FAR = 2000.0
COLUMNS = {
    "q, k, v": ("to_q", "to_k", "to_v", "_proj"),
    "attention out": ("to_out.0", "to_add_out"),
    "mlp in": ("mlp.net.0.proj",),
    "mlp out": ("mlp.net.2",),
}
"""Kinds of layers, by how their names end; the first that fits counts, from the last one on."""

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Format:
    """How a weight is stored, and the device it is computed on."""

    name: str
    store: Callable[[str, Tensor], Weights]
    device: Callable[[], AbstractContextManager[None]] = nullcontext


def plain(dtype: torch.dtype, name: str, weight: Tensor) -> Weights:
    return {f"{name}.weight": weight.to(dtype)}


def quantised(kind: str, name: str, weight: Tensor, **how: Any) -> Weights:
    layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
    found = QuantizedTensor.from_float(weight.bfloat16(), layout, scale="recalculate", **how)
    turned = {key: how[key] for key in ("convrot", "convrot_groupsize") if key in how}
    told = json.dumps({"format": kind, **turned}).encode()
    mark = torch.tensor(list(told), dtype=torch.uint8)
    return {**found.state_dict(f"{name}.weight"), f"{name}.comfy_quant": mark}


def packed(kind: str, name: str, weight: Tensor) -> Weights:
    values = weight.float().numpy()
    form = gguf.GGMLQuantizationType[kind]
    data = pack(values, kind) if kind in KINDS else gguf.quants.quantize(values, form)
    packs = bridge().gguf_layers
    params = packs._Params(torch.float32, tuple(weight.shape), kind)
    return {f"{name}.weight": packs._packed(torch.from_numpy(np.ascontiguousarray(data)), params)}


@contextmanager
def unscaled_inputs() -> Iterator[None]:
    """ComfyUI's own rule: an input whose scale no file gives is taken to lie within 448."""
    with fp8_products(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(LAYERS._ScaledInput, "_lacks_scale", lambda layer: False)
        yield


FP8 = partial(quantised, "float8_e4m3fn")
FORMATS = (
    Format("fp8, no scale, unpacked", partial(plain, torch.float8_e4m3fn)),
    Format("fp8, scaled, unpacked", FP8),
    Format("fp8, scaled, multiplied", FP8, fp8_products),
    Format("the same, inputs unscaled", FP8, unscaled_inputs),
    Format("int8, a scale, multiplied", partial(quantised, "int8_tensorwise")),
    Format(
        "int8, a scale a row, multiplied", partial(quantised, "int8_tensorwise", per_channel=True)
    ),
    Format(
        "int8, rotated, multiplied",
        partial(
            quantised, "int8_tensorwise", per_channel=True, convrot=True, convrot_groupsize=256
        ),
    ),
    Format("mxfp8, unpacked", partial(quantised, "mxfp8")),
    Format("nvfp4, unpacked", partial(quantised, "nvfp4")),
    *(Format(f"{kind}, unpacked", partial(packed, kind)) for kind in ("Q8_0", *KINDS)),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=24, help="of 128 channels, in the wide block")
    parser.add_argument("--layers", type=int, default=6, help="blocks of the smaller model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    asked = parser.parse_args()
    rows = measure(asked.heads, asked.layers)
    sys.stdout.write(table(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2))
    return 0


def measure(heads: int, layers: int) -> list[dict[str, Any]]:
    """One row of figures for each format, bf16 first."""
    wide, small = transformer(heads, 1), transformer(6, layers)
    block = Recorded(wide)
    exact = denoised(_model(small, FORMATS[0], torch.float32), HOST, 4)
    usual = denoised(_model(small, FORMATS[0], torch.bfloat16, "full"), HOST, 4)
    rows = [{"format": "bf16 against fp32", **block.bf16(), "edit": distance(usual, exact)}]
    for form in FORMATS:
        with form.device():
            edit = distance(denoised(_model(small, form), HOST, 4), usual)
            rows.append({"format": form.name, **block.errors(form), "edit": edit})
    return rows


def transformer(heads: int, layers: int) -> Any:
    """The real architecture in fp32, ``heads`` * 128 wide."""
    module = QwenImageTransformer2DModel(
        num_layers=layers, num_attention_heads=heads, joint_attention_dim=256
    )
    generator = torch.Generator().manual_seed(heads)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            values = 0.1 * noise + (0 if name.endswith(".bias") else 1)
        else:
            values = 1.3 * noise * parameter.shape[1] ** -0.5
        parameter.data = values.bfloat16().float()
    return module.eval().requires_grad_(False)


def stored(module: nn.Module, form: Format) -> Weights:
    """The weights of ``module`` as a file in ``form`` holds them."""
    found: Weights = {}
    for name, layer in module.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            bulk = name.startswith(BLOCK) and "_mod." not in name and parameter.ndim == 2
            key = f"{name}.{own}"
            found |= form.store(name, parameter) if bulk else {key: parameter.bfloat16()}
    return found


def _model(
    source: Any, form: Format, dtype: torch.dtype = torch.bfloat16, storage: str = "stored"
) -> FireRedModel:
    """``source`` in the pack's layers, loaded as from a file in ``form``."""
    module = QwenImageTransformer2DModel.from_config(source.config).eval().requires_grad_(False)
    full = dtype == torch.float32 or storage == "full"
    tensors = dict(source.state_dict()) if full else stored(source, form)
    HOST.layers.fill(module, tensors, dtype, "full" if full else "stored", lambda: None)
    handles = map(HOST.manage, (module, take_out(module)))
    return _bare(*handles, dtype)


def _bare(moved: Any, modulation: Any, dtype: torch.dtype) -> FireRedModel:
    """A model that only denoises."""
    nothing: Any = None
    return FireRedModel(
        name="random",
        transformer=moved,
        modulation=modulation,
        text_encoder=nothing,
        vae=nothing,
        scheduler=_standard_scheduler(),
        processor=nothing,
        dtype=dtype,
        precision="",
        cache=Cache(),
    )


class Recorded:
    """The linear layers of one block, with what each of them saw in bf16."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._inputs: Weights = {}
        half = QwenImageTransformer2DModel.from_config(source.config)
        half.load_state_dict(source.state_dict(), assign=True)
        half = _in_bf16(half)
        layers = dict(_linears(half))
        hooks = [
            layer.register_forward_pre_hook(partial(self._note, name))
            for name, layer in layers.items()
        ]
        _one_pass(half)
        for hook in hooks:
            hook.remove()
        self._outputs = {name: layers[name](self._inputs[name]) for name in layers}
        self._far_outputs = {n: layers[n](_far(self._inputs[n])) for n in layers if _kind(n) == OUT}

    def _note(self, name: str, _layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._inputs[name] = given[0]

    def bf16(self) -> dict[str, list[float]]:
        """Errors of bf16 against fp32."""
        layers = dict(_linears(self._source))
        return self._compare(lambda name, values: layers[name](values.float()), reverse=True)

    def errors(self, form: Format) -> dict[str, list[float]]:
        """Errors of ``form`` against bf16."""
        module = QwenImageTransformer2DModel.from_config(self._source.config)
        tensors = stored(self._source, form)
        HOST.layers.fill(module, tensors, torch.bfloat16, "stored", lambda: None)
        layers = {name: module.get_submodule(name) for name in self._inputs}
        return self._compare(lambda name, values: layers[name](values))

    @torch.no_grad()
    def _compare(
        self, compute: Callable[[str, Tensor], Tensor], reverse: bool = False
    ) -> dict[str, list[float]]:
        found: dict[str, list[Tensor]] = {column: [] for column in (*COLUMNS, "far")}
        for name, values in self._inputs.items():
            pairs = [(_kind(name), compute(name, values), self._outputs[name])]
            if _kind(name) == OUT:
                pairs.append(("far", compute(name, _far(values)), self._far_outputs[name]))
            for column, ours, bf16 in pairs:
                one, other = (bf16, ours) if reverse else (ours, bf16)
                found[column].append(_token_errors(one, other))
        errors = {column: torch.cat(each) for column, each in found.items()}
        return {column: [float(e.median()), float(e.max())] for column, e in errors.items()}


def _in_bf16(module: Any) -> Any:
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, name, nn.Parameter(parameter.bfloat16(), requires_grad=False))
    return module.eval()


OUT = "mlp out"


def _kind(name: str) -> str:
    fits = [kind for kind, ends in COLUMNS.items() if name.endswith(ends)]
    return fits[-1]


def _linears(module: Any) -> Iterator[tuple[str, nn.Linear]]:
    """The layers that a pass over pictures goes through in the only block."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and name.startswith(BLOCK) and "_mod." not in name:
            yield name, layer


@torch.no_grad()
def _one_pass(module: Any) -> None:
    noise = partial(torch.randn, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))
    module(
        hidden_states=noise(1, 256, 64),
        timestep=torch.tensor([0.5], dtype=torch.bfloat16),
        encoder_hidden_states=noise(1, 64, 256),
        encoder_hidden_states_mask=None,
        img_shapes=[[(1, 16, 16)]],
    )


def _far(values: Tensor) -> Tensor:
    """``values`` with one channel far beyond the others."""
    changed = values.clone()
    changed[..., 7] *= FAR
    return changed


def _token_errors(one: Tensor, other: Tensor) -> Tensor:
    """The relative error of every token."""
    one, other = one.float().flatten(0, -2), other.float().flatten(0, -2)
    return (one - other).norm(dim=1) / other.norm(dim=1)


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table in per cent: median and worst."""
    columns = [*COLUMNS, "far"]
    lines = [f"| format | {' | '.join(columns)} | edit |", "|---" + "|---:" * (len(columns) + 1)]
    for row in rows:
        cells = [" / ".join(f"{100 * value:.2f}" for value in row[column]) for column in columns]
        lines.append(f"| {row['format']} | {' | '.join(cells)} | {100 * row['edit']:.2f} |")
    return "relative error in per cent, median / worst\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
