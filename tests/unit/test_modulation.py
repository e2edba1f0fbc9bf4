"""The modulation as a table: what the blocks themselves would compute, without the layers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor, nn

from doubles.tiny_files import write_transformer
from doubles.tiny_model import build_tiny_model
from firered_edit.pipeline.errors import EditCancelled
from firered_edit.pipeline.host import Handle, PlainHandle, PlainHost
from firered_edit.pipeline.local.denoising import model_times
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.modulation import Row, Table, compute_table, take_out
from firered_edit.pipeline.local.schedule import prepared_schedule
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.request import EditRequest
from support.inside import InsideHost, bridge
from support.kinds import MakeReference
from support.real_size import real_transformer

CPU = torch.device("cpu")
META = torch.device("meta")
STEPS = 3
HOSTS = {"plain": PlainHost, "inside ComfyUI": InsideHost}


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module", params=[False, True], ids=["one time", "zero_cond_t"])
def zero_cond_t(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def folder(
    request: pytest.FixtureRequest, zero_cond_t: bool, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-firered"
    return build_tiny_model(folder, dtype=request.param, zero_cond_t=zero_cond_t)


@pytest.fixture(scope="module", params=HOSTS)
def model(request: pytest.FixtureRequest, tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", HOSTS[request.param]())


@pytest.fixture(scope="module")
def inside(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", InsideHost())


@pytest.fixture
def small(asked: EditRequest, reference: MakeReference) -> EditRequest:
    pictures = (reference(48, 32),)
    return replace(asked, references=pictures, num_inference_steps=2, guidance_scale=1.0)


def _table(model: FireRedModel, host: PlainHost) -> Table:
    transformer: Any = model.transformer.module
    scheduler = prepared_schedule(model.scheduler, STEPS, 12, CPU)
    times = model_times(scheduler, model.dtype)
    with torch.no_grad():
        return compute_table(transformer, model.modulation, times, host)


@pytest.mark.parametrize("host", HOSTS)
def test_rows_are_what_the_stock_blocks_compute(folder: Path, zero_cond_t: bool, host: str) -> None:
    """To the bit, timestep by timestep, seen in real passes of the untouched transformer."""
    model = load_folder(folder, "auto", HOSTS[host]())
    table = _table(model, HOSTS[host]())
    scheduler = prepared_schedule(model.scheduler, STEPS, 12, CPU)
    expected = [_seen(folder, time, model.dtype) for time in model_times(scheduler, model.dtype)]
    assert table.image.shape[:3] == (STEPS, 2, 2 if zero_cond_t else 1)
    assert table.text.shape[:3] == (STEPS, 2, 1)
    assert torch.equal(table.image, torch.stack([image for image, _ in expected]))
    assert torch.equal(table.text, torch.stack([text for _, text in expected]))


def _seen(folder: Path, time: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What the modulation layers of every block give in one pass at ``time``."""
    stock: Any = QwenImageTransformer2DModel.from_pretrained(folder / "transformer", dtype=dtype)
    image: list[Tensor] = []
    text: list[Tensor] = []
    for block in stock.transformer_blocks:
        block.img_mod.register_forward_hook(lambda *call: image.append(call[2]))
        block.txt_mod.register_forward_hook(lambda *call: text.append(call[2]))
    with torch.no_grad():
        stock(
            hidden_states=torch.ones(1, 8, 64, dtype=dtype),
            timestep=time,
            encoder_hidden_states=torch.ones(1, 5, 256, dtype=dtype),
            encoder_hidden_states_mask=None,
            img_shapes=[[(1, 2, 2), (1, 2, 2)]],
        )
    return torch.stack(image), torch.stack(text)


def test_rows_differ_from_step_to_step_and_from_block_to_block(model: FireRedModel) -> None:
    table = _table(model, PlainHost())
    rows = table.image.reshape(STEPS * 2, -1)
    assert len(rows.unique(dim=0)) == STEPS * 2


def test_no_modulation_layer_is_left_in_the_transformer(model: FireRedModel) -> None:
    left = [name for name, _ in model.transformer.module.named_parameters() if "_mod" in name]
    assert left == []
    for block in model.transformer.module.transformer_blocks:
        assert isinstance(block.img_mod, Row)
        assert isinstance(block.txt_mod, Row)


def test_what_was_taken_out_keeps_its_names_and_values(
    model: FireRedModel, tiny_model: Path
) -> None:
    """LoRAs find the layers by the names they have in the transformer."""
    stock: Any = QwenImageTransformer2DModel.from_pretrained(
        tiny_model / "transformer", dtype=torch.bfloat16
    )
    own = model.transformer.module.state_dict() | model.modulation.module.state_dict()
    expected = stock.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in expected)


def test_it_is_the_published_third_of_the_real_transformer() -> None:
    transformer = real_transformer(False, layers=60)
    whole = _count(transformer)
    blocks = [(block.img_mod, block.txt_mod) for block in transformer.transformer_blocks]
    modulation = take_out(transformer)
    try:
        assert whole == 20_430_401_088
        assert _count(modulation) == 6_796_984_320
        assert _count(transformer) == whole - 6_796_984_320
    finally:
        for block, (image, text) in zip(transformer.transformer_blocks, blocks, strict=True):
            block.img_mod, block.txt_mod = image, text


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _rows(model: FireRedModel) -> Iterator[Row]:
    for block in model.transformer.module.transformer_blocks:
        yield from (block.img_mod, block.txt_mod)


def _holding(model: FireRedModel) -> list[bool]:
    return [hasattr(row, "value") for row in _rows(model)]


def test_rows_hold_nothing_after_an_edit(model: FireRedModel, small: EditRequest) -> None:
    seen: list[list[bool]] = []
    last = model.transformer.module.transformer_blocks[1]
    hook = last.register_forward_hook(lambda *_: seen.append(_holding(model)))
    with hook:
        LocalEngine(model, PlainHost()).edit(small)
    assert seen == [[True] * 4] * 2
    assert _holding(model) == [False] * 4


@pytest.mark.parametrize("step", [1, 2])
def test_rows_hold_nothing_after_a_cancel(
    model: FireRedModel, small: EditRequest, step: int
) -> None:
    said: list[str] = []
    host = PlainHost(cancelled=lambda: f"step {step}/2" in said)
    host.say = said.append  # type: ignore[method-assign]
    with pytest.raises(EditCancelled):
        LocalEngine(model, host).edit(small)
    assert _holding(model) == [False] * 4


def test_a_cancel_while_the_table_is_made_ends_it(model: FireRedModel, small: EditRequest) -> None:
    model.cache.clear()
    made: list[int] = []
    layers = [image for image, _ in model.modulation.module.layers()]
    hooks = [layer.register_forward_hook(lambda *_: made.append(1)) for layer in layers]
    with pytest.raises(EditCancelled):
        LocalEngine(model, PlainHost(cancelled=lambda: bool(made))).edit(small)
    for hook in hooks:
        hook.remove()
    assert len(made) == 2


def _devices(module: nn.Module) -> set[torch.device]:
    return {parameter.device for parameter in module.parameters()}


def test_a_plain_host_moves_only_the_layer_it_borrows(tiny_model: Path) -> None:
    model = load_folder(tiny_model, "auto", PlainHost())
    modulation = model.modulation.module
    layer = modulation.transformer_blocks[0].img_mod
    with PlainHost(META).borrowed(PlainHandle(modulation), layer):
        assert _devices(layer) == {META}
        others = [each for pair in modulation.layers() for each in pair if each is not layer]
        assert {device for other in others for device in _devices(other)} == {CPU}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI computes on another device than the one the weights lie on."""
    monkeypatch.setattr(bridge().memory, "compute_device", lambda: META)


def _borrowed(handle: Handle, layer: nn.Module) -> AbstractContextManager[None]:
    return InsideHost().borrowed(handle, layer)


@pytest.mark.usefixtures("elsewhere")
def test_inside_comfyui_only_the_borrowed_layer_is_on_the_device(inside: FireRedModel) -> None:
    layers = [each for pair in inside.modulation.module.layers() for each in pair]
    layer, *others = layers
    with _borrowed(inside.modulation, layer):
        assert _devices(layer) == {META}
        assert {device for other in others for device in _devices(other)} == {CPU}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("ends", ["well", "in an error"])
def test_inside_comfyui_a_borrowed_layer_is_given_back_as_it_was(
    inside: FireRedModel, ends: str
) -> None:
    layer = inside.modulation.module.transformer_blocks[0].txt_mod
    before = dict(layer.named_parameters())
    expected: Any = nullcontext() if ends == "well" else pytest.raises(RuntimeError, match="broken")
    with expected, _borrowed(inside.modulation, layer):
        if ends != "well":
            raise RuntimeError("broken")
    after = dict(layer.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


@pytest.fixture(params=["bf16", "fp8"])
def stored(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> FireRedModel:
    """The model inside ComfyUI, its transformer as it is or quantised in ComfyUI's own format."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "firered"))
    if request.param == "fp8":
        for file in (folder / "transformer").glob("*.safetensors*"):
            file.unlink()
        file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        write_transformer(tiny_model, file, quantisation="float8_e4m3fn")
    return load_folder(folder, "auto", InsideHost())


def test_inside_comfyui_a_borrowed_layer_carries_its_patches(stored: FireRedModel) -> None:
    """A LoRA on the modulation reaches the table, and the weights stay as they were."""
    key = "diffusion_model.transformer_blocks.1.img_mod.1.weight"
    modulation: Any = stored.modulation.module
    layer = modulation.transformer_blocks[1].img_mod
    given = torch.ones(1, layer[1].in_features, dtype=torch.bfloat16)
    difference = torch.full((layer[1].out_features, layer[1].in_features), 0.5)
    patched = _patched(stored.modulation, {key: (difference,)})
    with torch.no_grad():
        before = layer(given)
        with _borrowed(patched, layer):
            during = layer(given)
        after = layer(given)
    change = nn.functional.linear(nn.functional.silu(given.float()), difference)
    assert torch.allclose(during.float() - before.float(), change, rtol=0.05)
    assert torch.equal(after, before)


def _patched(handle: Handle, patches: dict[str, tuple[Tensor]]) -> Handle:
    own: Any = handle
    patcher = own.patcher.clone()
    assert patcher.add_patches(patches, 1.0) == list(patches)
    changed: Handle = bridge().memory.ManagedModule(own.module, patcher)
    return changed


def test_another_patch_makes_another_table(inside: FireRedModel, small: EditRequest) -> None:
    """And without it the first table is found again."""
    key = "diffusion_model.transformer_blocks.1.img_mod.1.weight"
    weight = inside.modulation.module.transformer_blocks[1].img_mod[1].weight
    patched = _patched(inside.modulation, {key: (torch.full_like(weight, 0.5),)})
    changed = replace(inside, modulation=patched)
    before, during, after = (
        LocalEngine(model, InsideHost()).edit(small) for model in (inside, changed, inside)
    )
    assert torch.equal(before.images, after.images)
    assert not torch.equal(before.images, during.images)
    counts = [run.receipt.details["cache"]["modulation tables"] for run in (during, after)]
    assert counts == ["0 of 1 from cache", "1 of 1 from cache"]
