"""The single files hold the tiny model's weights under the names and in the forms of real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors import safe_open
from safetensors.torch import load_file

from doubles.tiny_files import (
    LoraLayout,
    Quantisation,
    Weights,
    dequantised,
    linear_layers,
    lora_delta,
    merged,
    move_marks_to_header,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)

PREFIX = "model.diffusion_model."
LAYER = "transformer_blocks.0.attn.to_q"
LAYERS = {LAYER: (64, 96), "transformer_blocks.1.img_mod.1": (192, 64)}
ALPHA_LAYOUTS: tuple[LoraLayout, ...] = (
    "diffusion_model down up alpha",
    "bare down up alpha",
    "transformer down up alpha",
    "kohya",
    "lycoris",
    "lokr transformer",
)

# Stored type and relative error, at most half again what a normal matrix has.
FORMS: dict[Quantisation, tuple[torch.dtype, float]] = {
    "float8_e4m3fn": (torch.float8_e4m3fn, 0.04),
    "int8_tensorwise": (torch.int8, 0.02),
    "mxfp8": (torch.float8_e4m3fn, 0.04),
    "nvfp4": (torch.uint8, 0.15),
    "scaled_fp8": (torch.float8_e4m3fn, 0.04),
}


def shards(folder: Path) -> Weights:
    files = folder.glob("*.safetensors")
    return {name: weight for file in files for name, weight in load_file(file).items()}


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def error(approximate: torch.Tensor, exact: torch.Tensor) -> float:
    return float((approximate.float() - exact.float()).norm() / exact.float().norm())


def scales(file: Path) -> set[str]:
    """The layers in `file` that have a scale."""
    parts = (name.rpartition(".") for name in load_file(file))
    return {layer for layer, _, part in parts if part in ("weight_scale", "scale_weight")}


def test_transformer_keeps_names_and_values(tiny_model: Path, tmp_path: Path) -> None:
    file = write_transformer(tiny_model, tmp_path / "models" / "dit.safetensors")
    assert equal(load_file(file), shards(tiny_model / "transformer"))


def test_transformer_carries_the_mark_of_zero_cond_t(tiny_model_fp32: Path, tmp_path: Path) -> None:
    stored = load_file(write_transformer(tiny_model_fp32, tmp_path / "dit", prefix=PREFIX))
    assert stored.pop(f"{PREFIX}__index_timestep_zero__").numel() == 0
    expected = shards(tiny_model_fp32 / "transformer")
    assert equal(stored, {PREFIX + name: weight for name, weight in expected.items()})


def test_plain_fp8_casts_everything(tiny_model: Path, tmp_path: Path) -> None:
    stored = load_file(write_transformer(tiny_model, tmp_path / "dit", dtype=torch.float8_e4m3fn))
    assert {weight.dtype for weight in stored.values()} == {torch.float8_e4m3fn}
    assert stored.keys() == shards(tiny_model / "transformer").keys()


@pytest.mark.parametrize("quantisation", FORMS)
def test_the_blocks_of_the_transformer_are_quantised(
    tiny_model: Path, tmp_path: Path, quantisation: Quantisation
) -> None:
    file = write_transformer(tiny_model, tmp_path / "dit", quantisation=quantisation)
    stored, linear = load_file(file), linear_layers(tiny_model)
    assert scales(file) == {name for name in linear if name.startswith("transformer_blocks.")}
    assert stored[f"{LAYER}.weight"].dtype == FORMS[quantisation][0]
    assert stored[f"{LAYER}.bias"].dtype == torch.bfloat16
    assert stored["img_in.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("quantisation", FORMS)
@pytest.mark.parametrize("write", [write_transformer, write_text_encoder])
def test_dequantised_is_close_to_the_folder(
    tiny_model: Path, tmp_path: Path, write: Callable[..., Path], quantisation: Quantisation
) -> None:
    part = "transformer" if write is write_transformer else "text_encoder"
    file = write(tiny_model, tmp_path / "file", quantisation=quantisation)
    plain, exact, scaled = dequantised(file), shards(tiny_model / part), scales(file)
    assert plain.keys() == exact.keys()
    assert {weight.dtype for weight in plain.values()} == {torch.float32}
    for name, weight in exact.items():
        limit = FORMS[quantisation][1] if name.removesuffix(".weight") in scaled else 0
        assert error(plain[name], weight) <= limit, name
        assert limit == 0 or error(plain[name], weight) > 0, name


def test_dequantised_multiplies_by_the_scale(tiny_model: Path, tmp_path: Path) -> None:
    file = write_transformer(tiny_model, tmp_path / "dit", quantisation="float8_e4m3fn")
    stored = load_file(file)
    product = stored[f"{LAYER}.weight"].float() * stored[f"{LAYER}.weight_scale"]
    assert torch.equal(dequantised(file)[f"{LAYER}.weight"], product)


def test_each_layer_names_its_format(tiny_model: Path, tmp_path: Path) -> None:
    file = write_transformer(tiny_model, tmp_path / "dit", quantisation="nvfp4", prefix=PREFIX)
    mark = load_file(file)[f"{PREFIX}{LAYER}.comfy_quant"]
    assert json.loads(mark.numpy().tobytes()) == {"format": "nvfp4"}
    move_marks_to_header(file)
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["_quantization_metadata"])
    assert header["layers"][PREFIX + LAYER] == {"format": "nvfp4"}
    assert not any(name.endswith("comfy_quant") for name in load_file(file))


def test_text_encoder_has_the_names_of_comfyui(tiny_model: Path, tmp_path: Path) -> None:
    stored = load_file(write_text_encoder(tiny_model, tmp_path / "clip"))
    heads = {name.partition(".")[0] for name in stored}
    assert heads == {"model", "visual", "lm_head"}
    assert "model.layers.0.self_attn.q_proj.weight" in stored
    assert equal(stored, shards(tiny_model / "text_encoder"))


def test_old_scaled_fp8_has_the_layout_of_the_real_file(tiny_model: Path, tmp_path: Path) -> None:
    file = write_text_encoder(tiny_model, tmp_path / "clip", quantisation="scaled_fp8")
    stored = load_file(file)
    assert stored["scaled_fp8"].dtype == torch.float8_e4m3fn
    assert stored["scaled_fp8"].numel() == 0
    assert stored["visual.merger.mlp.0.scale_weight"].shape == ()
    assert not any("comfy_quant" in name or "weight_scale" in name for name in stored)
    # Seven in each of three language layers, five in each of eight vision blocks, two that merge.
    assert len(scales(file)) == 3 * 7 + 8 * 5 + 2
    assert stored["lm_head.weight"].dtype == torch.bfloat16


def test_vae_comes_back_from_the_names_of_wan(tiny_model: Path, tmp_path: Path) -> None:
    stored = load_file(write_vae(tiny_model, tmp_path / "vae"))
    assert {"conv2.weight", "decoder.middle.0.residual.0.gamma"} <= stored.keys()
    expected = shards(tiny_model / "vae")
    assert not stored.keys() & expected.keys()
    assert equal(convert_wan_vae_to_diffusers(stored), expected)


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        ("raw peft", f"base_model.model.{LAYER}.lora_A.weight"),
        ("raw peft default", f"base_model.model.{LAYER}.lora_B.default.weight"),
        ("diffusers", f"transformer.{LAYER}.lora_A.weight"),
        ("diffusion_model ab", f"diffusion_model.{LAYER}.lora_B.weight"),
        ("diffusion_model down up alpha", f"diffusion_model.{LAYER}.alpha"),
        ("bare down up alpha", f"{LAYER}.alpha"),
        ("bare down up", f"{LAYER}.lora_down.weight"),
        ("bare ab", f"{LAYER}.lora_A.weight"),
        ("diffsynth", f"{LAYER}.lora_A.default.weight"),
        ("transformer down up alpha", f"transformer.{LAYER}.lora_up.weight"),
        ("kohya", "lora_unet_transformer_blocks_0_attn_to_q.lora_down.weight"),
        ("lycoris", "lycoris_transformer_blocks_0_attn_to_q.alpha"),
        ("lokr", "lycoris_transformer_blocks_0_attn_to_q.lokr_w2"),
        ("lokr transformer", f"transformer.{LAYER}.lokr_w2_a"),
    ],
)
def test_lora_has_the_names_of_its_layout(tmp_path: Path, layout: LoraLayout, key: str) -> None:
    stored = load_file(write_lora(tmp_path / "lora", LAYERS, layout))
    assert key in stored
    has_alpha = any(name.endswith(".alpha") for name in stored)
    assert has_alpha == (layout in (*ALPHA_LAYOUTS, "lokr"))


@pytest.mark.parametrize("layout", get_args(LoraLayout))
def test_delta_has_the_shape_and_the_size_of_a_change(layout: LoraLayout) -> None:
    delta = lora_delta(LAYERS, layout)
    assert {name: tuple(change.shape) for name, change in delta.items()} == LAYERS
    for change in delta.values():
        assert change.dtype == torch.float32
        assert 0.25 < change.std() * change.shape[1] ** 0.5 < 1


@pytest.mark.parametrize("alpha", [None, 2.0])
def test_delta_is_the_product_of_the_stored_factors(tmp_path: Path, alpha: float | None) -> None:
    stored = load_file(write_lora(tmp_path / "l", LAYERS, "bare down up alpha", alpha=alpha))
    up, down = (stored[f"{LAYER}.lora_{part}.weight"].float() for part in ("up", "down"))
    expected = (up @ down) * stored[f"{LAYER}.alpha"] / down.shape[0]
    assert torch.equal(lora_delta(LAYERS, "bare down up alpha", alpha=alpha)[LAYER], expected)


def test_delta_of_a_lokr_is_a_kronecker_product(tmp_path: Path) -> None:
    stored = load_file(write_lora(tmp_path / "lokr", LAYERS, "lokr", alpha=2.0))
    layer = "lycoris_" + LAYER.replace(".", "_")
    expected = torch.kron(stored[f"{layer}.lokr_w1"].float(), stored[f"{layer}.lokr_w2"].float())
    assert torch.equal(lora_delta(LAYERS, "lokr", alpha=2.0)[LAYER], expected)


@pytest.mark.parametrize("layout", ALPHA_LAYOUTS)
def test_alpha_scales_the_delta(layout: LoraLayout) -> None:
    whole = lora_delta(LAYERS, layout, rank=8)
    quarter = lora_delta(LAYERS, layout, rank=8, alpha=2.0)
    assert all(torch.equal(quarter[name] * 4, whole[name]) for name in LAYERS)


def test_a_layout_without_alpha_refuses_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no alpha"):
        write_lora(tmp_path / "lora", LAYERS, "diffusers", alpha=2.0)


def test_merged_adds_the_delta_to_its_layers_only(tiny_model: Path) -> None:
    weights, key = shards(tiny_model / "transformer"), f"{LAYER}.weight"
    delta = lora_delta({LAYER: linear_layers(tiny_model)[LAYER]}, "diffusers")
    changed = merged(weights, delta, strength=-0.5)
    assert changed[key].dtype == torch.bfloat16
    assert torch.equal(changed.pop(key), (weights.pop(key).float() - 0.5 * delta[LAYER]).bfloat16())
    assert equal(changed, weights)


def test_seed_changes_the_lora() -> None:
    one, other = (lora_delta(LAYERS, "diffusers", seed=seed) for seed in (0, 1))
    assert not torch.equal(one[LAYER], other[LAYER])
    assert not torch.equal(one[LAYER][:, :64], one["transformer_blocks.1.img_mod.1"][:64])
