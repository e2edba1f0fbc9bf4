"""A LoRA changes the model as an exact merge does, comes off without a trace, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file

from doubles.tiny_files import (
    LoraLayout,
    Quantisation,
    Shape,
    Weights,
    linear_layers,
    lora_delta,
    merged,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from firered_edit.pipeline.errors import BrokenModelError, InputError, SetupError
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.loras import lightning_schedule, use_lora
from firered_edit.pipeline.local.model import FireRedModel, LoraUse, OwnSchedule
from firered_edit.pipeline.local.modulation import Modulation
from firered_edit.pipeline.local.schedule import prepared_schedule
from firered_edit.pipeline.local.weights import ModelFiles, load_files, load_folder
from firered_edit.pipeline.request import EditRequest, EditResult
from support.denoised import denoised, distance
from support.inside import InsideHost
from support.kinds import MakeReference

LAYOUTS: tuple[LoraLayout, ...] = get_args(LoraLayout)
ATTENTION = "transformer_blocks.0.attn.to_q"
MODULATION = "transformer_blocks.1.img_mod.1"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""fp32 weights against fp32 weights: the order of a few products may differ."""
ROUNDING = 1e-5
"""Relative L2 distance of fp32 latents; every LoRA here is at 0.8 and more."""
SEEN = 1e-4
"""Of a picture in 0..1: a fortieth of the smallest step that a file can hold."""


class Listening(InsideHost):
    """A host that keeps what was said."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__(vocabulary)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def host(tiny_model: Path) -> Listening:
    return Listening(tiny_model / "tokenizer")


@pytest.fixture(scope="module")
def layers(tiny_model_fp32: Path) -> dict[str, Shape]:
    """All linear layers, those of the modulation among them."""
    return linear_layers(tiny_model_fp32)


@pytest.fixture(scope="module")
def model(tiny_model_fp32: Path, host: Listening) -> FireRedModel:
    return load_folder(tiny_model_fp32, "auto", host)


@pytest.fixture(scope="module")
def plain(model: FireRedModel, host: Listening) -> torch.Tensor:
    """Latents of the model without a LoRA."""
    return denoised(model, host)


@pytest.fixture(scope="module")
def merge(tiny_model_fp32: Path, host: Listening) -> Callable[..., FireRedModel]:
    """A fresh model with changes of weights merged into it."""

    def merge(*deltas: tuple[Weights, float]) -> FireRedModel:
        fresh = load_folder(tiny_model_fp32, "auto", host)
        for delta, strength in deltas:
            put_in(fresh, delta, strength)
        return fresh

    return merge


def put_in(model: FireRedModel, delta: Weights, strength: float = 1.0) -> None:
    """Add ``delta`` to the weights of both transformer and modulation."""
    for module in (model.transformer.module, model.modulation.module):
        own = module.state_dict()
        changes = {layer: change for layer, change in delta.items() if f"{layer}.weight" in own}
        module.load_state_dict(merged(own, changes, strength=strength))


def weights_of(model: FireRedModel, host: Listening) -> Weights:
    """The weights of linear layers as the model computes with them, LoRAs included."""
    host.load([model.transformer], 0)
    found = {key: weight.clone() for key, weight in model.transformer.module.state_dict().items()}
    modulation = model.modulation.module
    assert isinstance(modulation, Modulation)
    for block, (image, text) in enumerate(modulation.layers()):
        for name, layer in (("img_mod", image), ("txt_mod", text)):
            with host.borrowed(model.modulation, layer):
                own = {key: weight.clone() for key, weight in layer.named_parameters()}
            found |= {f"transformer_blocks.{block}.{name}.{key}": own[key] for key in own}
    return found


def assert_close(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    far = [key for key in expected if not torch.allclose(found[key], expected[key], **CLOSE)]
    assert far == []


def kind_of(layout: LoraLayout) -> LoraLayout:
    """A layout that stands for all with the same change of weights."""
    return layout if "lokr" in layout else "raw peft"


@pytest.fixture(scope="module")
def merged_as(
    merge: Callable[..., FireRedModel], layers: dict[str, Shape], host: Listening
) -> Callable[[LoraLayout], tuple[Weights, torch.Tensor]]:
    """Weights and latents of an exact merge."""

    @cache
    def merged_as(layout: LoraLayout) -> tuple[Weights, torch.Tensor]:
        exact = merge((lora_delta(layers, layout), 1.0))
        return weights_of(exact, host), denoised(exact, host)

    return lambda layout: merged_as(kind_of(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_equals_an_exact_merge(
    model: FireRedModel,
    layers: dict[str, Shape],
    plain: torch.Tensor,
    merged_as: Callable[[LoraLayout], tuple[Weights, torch.Tensor]],
    host: Listening,
    tmp_path: Path,
    layout: LoraLayout,
) -> None:
    file = write_lora(tmp_path / "lora.safetensors", layers, layout)
    changed = use_lora(model, file, 1.0, True, host)
    assert changed.loras == (LoraUse("lora", 1.0, len(layers), len(layers)),)
    weights, latents = merged_as(layout)
    assert_close(weights_of(changed, host), weights)
    assert distance(denoised(changed, host), latents) < ROUNDING
    assert distance(latents, plain) > 0.8


@pytest.mark.parametrize(
    "layer", ["transformer_blocks.0.img_mod.1", "transformer_blocks.1.txt_mod.1"]
)
@pytest.mark.parametrize("layout", ["raw peft", "kohya", "lokr"])
def test_a_lora_of_the_modulation_alone_is_carried_out(
    model: FireRedModel,
    merge: Callable[..., FireRedModel],
    layers: dict[str, Shape],
    plain: torch.Tensor,
    host: Listening,
    tmp_path: Path,
    layer: str,
    layout: LoraLayout,
) -> None:
    only = {layer: layers[layer]}
    file = write_lora(tmp_path / "lora.safetensors", only, layout)
    latents = denoised(use_lora(model, file, 1.0, True, host), host)
    assert distance(latents, denoised(merge((lora_delta(only, layout), 1.0)), host)) < ROUNDING
    assert distance(latents, plain) > 0.01


@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("strength", [0.5, -1.0, 2.0, 0.0])
def test_strength_and_alpha_scale_the_change(
    model: FireRedModel,
    merge: Callable[..., FireRedModel],
    layers: dict[str, Shape],
    host: Listening,
    tmp_path: Path,
    strength: float,
    alpha: float | None,
) -> None:
    layout: LoraLayout = "bare down up alpha"
    file = write_lora(tmp_path / "lora.safetensors", layers, layout, alpha=alpha)
    changed = use_lora(model, file, strength, True, host)
    exact = merge((lora_delta(layers, layout, alpha=alpha), strength))
    assert_close(weights_of(changed, host), weights_of(exact, host))
    assert str(changed.loras[0]) == f"lora at {strength:g}"


@pytest.mark.parametrize("strength", [2.05, -3.0, float("nan")])
def test_a_strength_out_of_range_is_refused(
    model: FireRedModel, host: Listening, tmp_path: Path, strength: float
) -> None:
    with pytest.raises(InputError, match="strength"):
        use_lora(model, tmp_path / "not_even_looked_at.safetensors", strength, True, host)


def test_loras_add_up(
    model: FireRedModel,
    merge: Callable[..., FireRedModel],
    layers: dict[str, Shape],
    host: Listening,
    tmp_path: Path,
) -> None:
    one = write_lora(tmp_path / "one.safetensors", layers, "diffusers", seed=1)
    two = write_lora(tmp_path / "two.safetensors", layers, "kohya", seed=2)
    both = use_lora(use_lora(model, one, 1.0, True, host), two, -0.5, True, host)
    exact = merge(
        (lora_delta(layers, "diffusers", seed=1), 1.0), (lora_delta(layers, "kohya", seed=2), -0.5)
    )
    assert [str(use) for use in both.loras] == ["one at 1", "two at -0.5"]
    assert_close(weights_of(both, host), weights_of(exact, host))
    assert distance(denoised(both, host), denoised(exact, host)) < ROUNDING


@pytest.fixture(scope="module")
def small(reference: MakeReference, asked: EditRequest) -> EditRequest:
    return replace(
        asked,
        references=(reference(64, 48),),
        num_inference_steps=2,
        guidance_scale=2.0,
        acceleration="regular",
    )


@pytest.fixture
def lora(layers: dict[str, Shape], tmp_path: Path) -> Path:
    return write_lora(tmp_path / "style.safetensors", layers, "raw peft")


@pytest.fixture
def edit(host: Listening, small: EditRequest) -> Callable[..., EditResult]:
    """The small edit by a model, with inputs changed as asked."""
    return lambda model, **change: LocalEngine(model, host).edit(replace(small, **change))


def test_an_edit_with_a_lora_is_that_of_the_merge_and_leaves_no_trace(
    model: FireRedModel,
    merge: Callable[..., FireRedModel],
    layers: dict[str, Shape],
    host: Listening,
    lora: Path,
    edit: Callable[..., EditResult],
) -> None:
    exact = edit(merge((lora_delta(layers, "raw peft"), 1.0))).images
    before = edit(model).images
    changed = use_lora(model, lora, 1.0, True, host)
    other = use_lora(model, lora, -1.0, True, host)
    runs = [edit(used).images for used in (changed, model, other, changed, model)]
    assert (runs[0] - exact).abs().max() < SEEN
    assert (runs[0] - before).abs().max() > 100 * SEEN
    assert (runs[0] - runs[2]).abs().max() > 100 * SEEN
    assert torch.equal(runs[3], runs[0])
    assert torch.equal(runs[1], before)
    assert torch.equal(runs[4], before)
    assert model.loras == ()


def test_the_modulation_table_follows_the_loras(
    model: FireRedModel,
    host: Listening,
    lora: Path,
    edit: Callable[..., EditResult],
) -> None:
    changed = use_lora(model, lora, 1.0, True, host)
    stronger = use_lora(model, lora, 2.0, True, host)
    edit(model, seed=1)
    runs = [edit(used, seed=2) for used in (model, changed, stronger, changed, model)]
    caches = [run.receipt.details["cache"] for run in runs]
    tables = [used["modulation tables"].partition(" ")[0] for used in caches]
    assert tables == ["1", "0", "0", "1", "1"]
    assert {(used["prompts"], used["references"]) for used in caches} == {
        ("2 of 2 from cache", "1 of 1 from cache")
    }


def test_partly_matched_says_how_many(
    model: FireRedModel,
    layers: dict[str, Shape],
    host: Listening,
    tmp_path: Path,
    edit: Callable[..., EditResult],
) -> None:
    some = {ATTENTION: layers[ATTENTION], MODULATION: layers[MODULATION]}
    strangers = {"double_blocks.3.img_attn.qkv": (8, 8), "single_blocks.1.linear1": (8, 8)}
    file = write_lora(tmp_path / "half.safetensors", some | strangers, "diffusers")
    changed = use_lora(model, file, 0.7, True, host)
    assert changed.loras == (LoraUse("half", 0.7, 2, 4),)
    assert host.said[-1] == "half at 0.7, 2 of 4 layers"
    assert edit(changed).receipt.details["loras"] == ["half at 0.7, 2 of 4 layers"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_lora_of_another_model_is_an_error(
    model: FireRedModel, host: Listening, tmp_path: Path, layout: LoraLayout
) -> None:
    flux = {f"double_blocks.{block}.img_attn.qkv": (8, 8) for block in range(3)}
    file = write_lora(tmp_path / "flux.safetensors", flux, layout)
    with pytest.raises(InputError, match=r"^flux.safetensors has 3 layers, and none of them"):
        use_lora(model, file, 1.0, True, host)


@pytest.mark.parametrize("layout", ["raw peft", "kohya", "lokr", "lokr transformer"])
def test_layers_of_another_shape_do_not_count(
    model: FireRedModel,
    layers: dict[str, Shape],
    host: Listening,
    tmp_path: Path,
    layout: LoraLayout,
) -> None:
    rows, columns = layers[ATTENTION]
    shapes = {ATTENTION: (2 * rows, 2 * columns), MODULATION: layers[MODULATION]}
    file = write_lora(tmp_path / "lora.safetensors", shapes, layout)
    assert use_lora(model, file, 1.0, True, host).loras[0].matched == 1
    with pytest.raises(InputError, match="1 layer"):
        only = {ATTENTION: shapes[ATTENTION]}
        use_lora(model, write_lora(file, only, layout), 1.0, True, host)


def _differences(shape: Shape) -> Weights:
    """A LoRA whose layers are whole differences: of a weight, and of a weight and its bias."""
    return {
        f"{ATTENTION}.diff": torch.full(shape, 0.5),
        f"{ATTENTION}.diff_b": torch.full(shape[:1], 0.25),
    }


def test_whole_differences_are_added_and_a_bias_is_no_layer_of_its_own(
    model: FireRedModel,
    merge: Callable[..., FireRedModel],
    layers: dict[str, Shape],
    host: Listening,
    tmp_path: Path,
) -> None:
    tensors = _differences(layers[ATTENTION])
    save_file(tensors, tmp_path / "difference.safetensors")
    changed = use_lora(model, tmp_path / "difference.safetensors", 1.0, True, host)
    expected = weights_of(merge(), host)
    expected[f"{ATTENTION}.weight"] += 0.5
    expected[f"{ATTENTION}.bias"] += 0.25
    assert_close(weights_of(changed, host), expected)
    assert str(changed.loras[0]) == "difference at 1"


def test_a_whole_difference_of_another_shape_does_not_count(
    model: FireRedModel, host: Listening, tmp_path: Path
) -> None:
    save_file(_differences((3, 5)), tmp_path / "difference.safetensors")
    with pytest.raises(InputError, match="1 layer"):
        use_lora(model, tmp_path / "difference.safetensors", 1.0, True, host)


def _half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def _as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _half,
        _as_folder,
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("<!DOCTYPE html><title>Sign in</title>" * 40),
        lambda file: torch.save({f"{ATTENTION}.lora_A.weight": torch.zeros(2)}, file),
    ],
    ids=["half", "a folder", "gone", "empty", "a web page", "a pickle"],
)
def test_what_is_no_safetensors_file_is_named(
    model: FireRedModel, host: Listening, lora: Path, damage: Callable[[Path], object]
) -> None:
    damage(lora)
    with pytest.raises(SetupError, match=r"style\.safetensors"):
        use_lora(model, lora, 1.0, True, host)


def test_a_pickle_by_its_own_name_is_not_opened(
    model: FireRedModel, host: Listening, tmp_path: Path
) -> None:
    file = tmp_path / "style.pt"
    torch.save({f"{ATTENTION}.lora_A.weight": torch.zeros(2)}, file)
    with pytest.raises(BrokenModelError, match="style.pt"):
        use_lora(model, file, 1.0, True, host)


def test_plain_torch_has_no_loras(model: FireRedModel, lora: Path) -> None:
    with pytest.raises(SetupError, match="inside ComfyUI"):
        use_lora(model, lora, 1.0, True, PlainHost())


NAMES = {
    "FireRed-Image-Edit-1.0-Lightning-8steps-v1.0": 8,
    "FireRed-Image-Edit-1.1-Lightning-8steps-v1.2": 8,
    "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16": 4,
    "Qwen-Image-Lightning-8steps-V2.0-bf16": 8,
    "firered_lightning_4_steps": 4,
    "FireRed-Lightning": 8,
    "portrait-8steps": None,
    "FireRed-Image-Edit-1.1-Makeup": None,
}


@pytest.mark.parametrize(("name", "steps"), NAMES.items())
def test_a_lightning_file_is_known_by_its_name(name: str, steps: int | None) -> None:
    expected = None if steps is None else OwnSchedule(name, steps, 1.0, 3.0)
    assert lightning_schedule(name) == expected


@pytest.mark.parametrize("name", ["FireRed-Lightning-8steps", "Qwen-Lightning-4steps-V1.0"])
def test_lightning_sets_the_schedule_and_says_so(
    model: FireRedModel,
    host: Listening,
    lora: Path,
    edit: Callable[..., EditResult],
    name: str,
) -> None:
    changed = use_lora(model, lora.rename(lora.with_stem(name)), 1.0, True, host)
    steps = 8 if "8steps" in name else 4
    assert host.said[-1] == f"{name} at 1\nsets {steps} steps and guidance 1"
    result = edit(changed, num_inference_steps=40, guidance_scale=4.0)
    receipt = result.receipt
    assert (receipt.num_inference_steps, receipt.guidance_scale) == (steps, 1.0)
    assert receipt.details["schedule"] == "shift 3, no terminal level"
    notice = f"{name} sets {steps} steps and guidance 1"
    assert receipt.notices[0] == notice
    assert notice in host.said[-1]
    again = edit(changed, num_inference_steps=2, guidance_scale=1.0)
    assert torch.equal(result.images, again.images), "widgets have no say"


@pytest.mark.parametrize(("switch", "strength"), [(False, 1.0), (True, 0.0), (True, -1.0)])
def test_without_its_schedule_the_widgets_count(
    model: FireRedModel,
    host: Listening,
    lora: Path,
    edit: Callable[..., EditResult],
    switch: bool,
    strength: float,
) -> None:
    """Nor has a LoRA a schedule to bring that is not there, or is taken away."""
    file = lora.rename(lora.with_stem("FireRed-Lightning-8steps"))
    changed = use_lora(model, file, strength, switch, host)
    assert changed.schedule is None
    assert host.said[-1] == f"FireRed-Lightning-8steps at {strength:g}"
    receipt = edit(changed).receipt
    assert (receipt.num_inference_steps, receipt.guidance_scale) == (2, 2.0)
    assert receipt.details["schedule"] == "reference"
    assert receipt.notices == []


def test_a_schedule_stays_when_another_lora_follows(
    model: FireRedModel, host: Listening, lora: Path, tmp_path: Path
) -> None:
    lightning = tmp_path / "Lightning-4steps.safetensors"
    lightning.write_bytes(lora.read_bytes())
    one = use_lora(use_lora(model, lightning, 1.0, True, host), lora, 1.0, True, host)
    other = use_lora(use_lora(model, lora, 1.0, True, host), lightning, 1.0, True, host)
    assert one.schedule == other.schedule == OwnSchedule("Lightning-4steps", 4, 1.0, 3.0)


@pytest.mark.parametrize("tokens", [12, 4096, 8192])
def test_the_noise_levels_of_lightning_are_those_it_was_distilled_for(
    model: FireRedModel, tokens: int
) -> None:
    own = prepared_schedule(model.scheduler, 8, tokens, torch.device("cpu"), 3.0)
    expected = [1, 0.955, 0.900, 0.833, 0.750, 0.643, 0.500, 0.300, 0]
    assert [round(sigma.item(), 3) for sigma in own.sigmas] == expected
    reference = prepared_schedule(model.scheduler, 8, tokens, torch.device("cpu"))
    assert round(reference.sigmas[-2].item(), 3) == 0.020


# How far the denoised latents are from those of the exact merge. ComfyUI rounds a patched weight
# back to the format it is stored in; without the LoRA the distance is 0.84 and more.
STORED: dict[str, tuple[Quantisation | None, torch.dtype | None, float]] = {
    "bf16": (None, None, 0.0),
    "plain fp8": (None, torch.float8_e4m3fn, 0.3),
    "fp8": ("float8_e4m3fn", None, 0.2),
    "int8": ("int8_tensorwise", None, 0.1),
    "mxfp8": ("mxfp8", None, 0.2),
    "nvfp4": ("nvfp4", None, 0.6),
}


@pytest.mark.parametrize("form", STORED)
def test_a_lora_on_quantised_weights_is_near_the_exact_merge(
    tiny_model: Path, lora: Path, host: Listening, tmp_path: Path, form: str
) -> None:
    quantisation, dtype, tolerance = STORED[form]
    files = ModelFiles(
        write_transformer(
            tiny_model, tmp_path / "dit.safetensors", dtype=dtype, quantisation=quantisation
        ),
        write_text_encoder(tiny_model, tmp_path / "clip.safetensors"),
        write_vae(tiny_model, tmp_path / "vae.safetensors"),
    )
    stored, exact = load_files(files, "auto", host), load_files(files, "bf16", host)
    put_in(exact, lora_delta(linear_layers(tiny_model), "raw peft"))
    wanted, without = denoised(exact, host), denoised(stored, host)
    changed = denoised(use_lora(stored, lora, 1.0, True, host), host)
    assert distance(changed, wanted) <= tolerance
    assert distance(without, wanted) > 0.8
    assert torch.equal(denoised(stored, host), without), "and comes off without a trace"
