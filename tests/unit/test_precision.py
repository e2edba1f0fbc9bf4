"""Weights in 8 bits and fewer: what is multiplied as it lies, and how near it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from doubles.tiny_files import write_text_encoder, write_transformer, write_vae
from firered_edit.pipeline.host import PlainHost, Storage
from firered_edit.pipeline.local.model import FireRedModel, Precision
from firered_edit.pipeline.local.weights import ModelFiles, load_files, load_folder
from support.denoised import denoised, distance
from support.inside import InsideHost, bridge
from support.products import fp8_products

STEPS = 2
UNPACKED = "unpacked to bfloat16 for each layer: slower than bfloat16 where that fits"


@pytest.fixture
def fp8_device() -> Iterator[None]:
    """The CPU passes for a card that multiplies in fp8."""
    with fp8_products():
        yield


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often torch multiplied in 8 bits."""
    counts = {"fp8": 0, "int8": 0}

    def counting(form: str, multiply: Callable[..., Any], *given: Any, **named: Any) -> Any:
        counts[form] += 1
        return multiply(*given, **named)

    for form, place, name in (("fp8", nn.functional, "scaled_mm"), ("int8", torch, "_int_mm")):
        monkeypatch.setattr(place, name, partial(counting, form, getattr(place, name)))
    return counts


def _layer(storage: Storage, weight: torch.Tensor) -> nn.Linear:
    """A linear layer as the host's kit builds it among a transformer's blocks."""
    rows, columns = weight.shape
    module = nn.Module()
    module.transformer_blocks = nn.ModuleList([nn.Linear(columns, rows, bias=False)])
    kit = InsideHost().layers
    kit.fill(module, {"transformer_blocks.0.weight": weight}, torch.bfloat16, storage, lambda: None)
    layer: nn.Linear = module.transformer_blocks[0]
    return layer


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@torch.no_grad()
def _error(storage: Storage, weight: torch.Tensor, values: torch.Tensor) -> float:
    layer = _layer(storage, weight)
    return distance(layer(values), nn.functional.linear(values, weight))


@pytest.mark.usefixtures("fp8_device")
@pytest.mark.parametrize("factor", [0.001, 1.0, 1000.0])
def test_inputs_beyond_the_range_of_fp8_are_scaled_not_cut_off(
    counted: dict[str, int], factor: float
) -> None:
    values = _random(1, 40, 256, seed=1) * factor
    assert _error("fp8", _random(128, 256), values) < 0.05
    assert counted["fp8"] == 1


@pytest.mark.usefixtures("fp8_device")
def test_an_input_of_zeros_gives_zeros() -> None:
    layer = _layer("fp8", _random(128, 256))
    with torch.no_grad():
        assert not layer(torch.zeros(1, 4, 256, dtype=torch.bfloat16)).any()


@pytest.mark.usefixtures("fp8_device")
def test_the_scale_of_a_file_counts() -> None:
    """A file that says how large a layer's inputs are was calibrated for it."""
    layer = _layer("fp8", torch.eye(64).bfloat16())
    layer.input_scale = nn.Parameter(torch.tensor(1 / 448), requires_grad=False)
    with torch.no_grad():
        found = layer(torch.full((16, 64), 2.0, dtype=torch.bfloat16))
    assert torch.allclose(found, torch.ones_like(found), rtol=0.01)  # beyond it, and cut off


def test_one_large_channel_does_not_coarsen_the_others_in_int8() -> None:
    values = _random(1, 40, 512, seed=1)
    values[..., 7] *= 1000
    assert _error("int8", _random(128, 512), values) < 0.03


def test_one_large_row_does_not_coarsen_the_others_in_int8() -> None:
    weight = _random(128, 256)
    weight[0] *= 1000
    values = _random(40, 256, seed=1)
    layer = _layer("int8", weight)
    with torch.no_grad():
        found, expected = layer(values), nn.functional.linear(values, weight)
    assert distance(found[:, 1:], expected[:, 1:]) < 0.02


def _linears(model: FireRedModel) -> int:
    """The layers of the transformer's blocks that every pass goes through."""
    layers = bridge().layers
    modules = model.transformer.module.modules()
    return sum(isinstance(each, layers._ScaledInput) for each in modules)


@pytest.mark.usefixtures("fp8_device")
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_every_8_bit_layer_is_multiplied_in_8_bits(
    tiny_model: Path, counted: dict[str, int], precision: Precision
) -> None:
    host = InsideHost()
    model = load_folder(tiny_model, precision, host)
    denoised(model, host, STEPS)
    other = {"fp8": "int8", "int8": "fp8"}[precision]
    assert counted == {precision: STEPS * _linears(model), other: 0}
    assert _linears(model) > 0
    assert model.precision == f"{precision} from bfloat16, multiplied in {precision}"


def test_what_the_device_cannot_multiply_is_unpacked_and_the_receipt_says_so(
    tiny_model: Path, counted: dict[str, int]
) -> None:
    host = InsideHost()
    model = load_folder(tiny_model, "fp8", host)
    denoised(model, host, STEPS)
    assert counted == {"fp8": 0, "int8": 0}
    assert model.precision == f"fp8 from bfloat16, {UNPACKED}"


@pytest.fixture
def files(tiny_model: Path, tmp_path: Path) -> Callable[..., ModelFiles]:
    """The tiny model as single files, the transformer's written as asked."""
    encoder = write_text_encoder(tiny_model, tmp_path / "encoder.safetensors")
    vae = write_vae(tiny_model, tmp_path / "vae.safetensors")

    def make(**how: Any) -> ModelFiles:
        file = write_transformer(tiny_model, tmp_path / "model.safetensors", **how)
        return ModelFiles(file, encoder, vae)

    return make


@pytest.mark.usefixtures("fp8_device")
def test_plain_fp8_is_unpacked_even_where_the_device_multiplies_in_fp8(
    tiny_model: Path,
    files: Callable[..., ModelFiles],
    counted: dict[str, int],
) -> None:
    host = InsideHost(tiny_model / "tokenizer")
    model = load_files(files(dtype=torch.float8_e4m3fn), "auto", host)
    denoised(model, host, STEPS)
    assert counted["fp8"] == 0
    assert model.precision.startswith(f"fp8, {UNPACKED}")


@pytest.mark.usefixtures("fp8_device")
def test_scaled_fp8_files_are_multiplied_in_fp8(
    tiny_model: Path,
    files: Callable[..., ModelFiles],
    counted: dict[str, int],
) -> None:
    host = InsideHost(tiny_model / "tokenizer")
    model = load_files(files(quantisation="float8_e4m3fn"), "auto", host)
    denoised(model, host, STEPS)
    assert counted["fp8"] > 0
    assert model.precision == "fp8, multiplied in fp8"


@pytest.mark.usefixtures("fp8_device")
def test_a_file_may_forbid_products_in_fp8() -> None:
    layer = _layer("fp8", _random(64, 64))
    layer._full_precision_mm = True
    host = InsideHost()
    both = nn.ModuleList([layer, _layer("fp8", _random(64, 64))])
    assert host.layers.multiplied(layer) == 0.0
    assert host.layers.multiplied(both) == 0.5


def test_layers_of_torch_multiply_nothing_packed() -> None:
    assert PlainHost().layers.multiplied(nn.Linear(4, 4)) == 0.0
