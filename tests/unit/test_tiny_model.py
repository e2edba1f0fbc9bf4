"""The tiny model folder is a valid one, reproducible, and sensitive to wrong mathematics."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as stock
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import Qwen2Tokenizer

from doubles.tiny_model import build_tiny_model
from doubles.tiny_tokenizer import IMAGE_TOKEN, SPECIAL_TOKENS, prompt_template
from support.comfyui import comfyui_source

MAX_BYTES = 14 * 2**20
PARTS = {"scheduler", "vae", "text_encoder", "tokenizer", "processor", "transformer"}


@pytest.fixture(scope="session")
def own_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def pipeline(own_tiny_model: Path) -> Any:
    loaded = QwenImageEditPlusPipeline.from_pretrained(own_tiny_model, dtype=torch.bfloat16)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def real_vocabulary() -> Path:
    return comfyui_source() / "comfy" / "text_encoders" / "qwen25_tokenizer"


@pytest.fixture(scope="module")
def worded_model(real_vocabulary: Path) -> Iterator[Path]:
    """With the real vocabulary; too large for pytest's folders, which outlive the run."""
    with tempfile.TemporaryDirectory() as folder:
        yield build_tiny_model(Path(folder), vocabulary=real_vocabulary)


@pytest.fixture
def small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the areas to which the stock pipeline resizes every reference picture."""
    monkeypatch.setattr(stock, "CONDITION_IMAGE_SIZE", 96 * 96)
    monkeypatch.setattr(stock, "VAE_IMAGE_SIZE", 64 * 64)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture: its contents survive resizing."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


def edit(pipeline: Any, prompt: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Two steps with guidance over two references: (height, width, 3) in [0, 1]."""
    result = pipeline(
        image=[picture(80, 60), picture(50, 70, seed=1)],
        prompt=prompt,
        negative_prompt=" ",
        true_cfg_scale=4.0,
        num_inference_steps=2,
        width=96,
        height=64,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )
    pixels: np.ndarray[Any, np.dtype[np.float32]] = result.images[0]
    return pixels


def weights(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.safetensors")}


def test_folder_has_the_parts_of_the_pipeline(own_tiny_model: Path) -> None:
    index = json.loads((own_tiny_model / "model_index.json").read_text())
    assert index["_class_name"] == "QwenImageEditPlusPipeline"
    assert {key for key in index if not key.startswith("_")} == PARTS
    assert {path.name for path in own_tiny_model.iterdir() if path.is_dir()} == PARTS


def test_large_parts_are_split_and_hold_nothing_but_safetensors(own_tiny_model: Path) -> None:
    assert (own_tiny_model / "transformer/diffusion_pytorch_model.safetensors.index.json").exists()
    assert (own_tiny_model / "text_encoder/model.safetensors.index.json").exists()
    suffixes = {path.suffix for path in own_tiny_model.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".txt", ".safetensors"}


def test_folder_is_small(own_tiny_model: Path) -> None:
    assert sum(p.stat().st_size for p in own_tiny_model.rglob("*") if p.is_file()) < MAX_BYTES


def test_geometry_is_the_real_one(pipeline: Any) -> None:
    transformer, vae = pipeline.transformer.config, pipeline.vae.config
    assert (transformer.in_channels, transformer.out_channels) == (64, 16)
    assert (transformer.patch_size, transformer.guidance_embeds) == (2, False)
    assert sum(transformer.axes_dims_rope) == transformer.attention_head_dim
    assert (vae.z_dim, pipeline.vae_scale_factor, vae.num_res_blocks) == (16, 8, 2)


def test_text_encoder_geometry_is_the_real_one(pipeline: Any) -> None:
    config = pipeline.text_encoder.config
    text, vision = config.text_config, config.vision_config
    head_width = text.hidden_size // text.num_attention_heads
    assert sum(text.rope_parameters["mrope_section"]) == head_width // 2
    assert text.hidden_size == pipeline.transformer.config.joint_attention_dim
    assert text.hidden_size == vision.out_hidden_size
    assert (vision.patch_size, vision.spatial_merge_size, vision.window_size) == (14, 2, 112)
    assert 0 < len(vision.fullatt_block_indexes) < vision.depth


def test_proportions_are_the_real_ones(pipeline: Any) -> None:
    transformer, config = pipeline.transformer.config, pipeline.text_encoder.config
    text, vision = config.text_config, config.vision_config
    head = transformer.attention_head_dim
    assert list(transformer.axes_dims_rope) == [head // 8, head * 7 // 16, head * 7 // 16]
    assert text.hidden_size == 128 * text.num_attention_heads
    assert text.rope_parameters["mrope_section"] == [16, 24, 24]
    assert vision.hidden_size == 80 * vision.num_heads
    assert list(vision.fullatt_block_indexes) == list(range(7, vision.depth, 8))


@pytest.mark.usefixtures("small_references")
def test_stock_pipeline_edits_a_picture(pipeline: Any) -> None:
    pixels = edit(pipeline, "make the car red")
    assert pixels.shape == (64, 96, 3)
    assert np.isfinite(pixels).all()
    assert pixels.std() > 0.05
    assert ((pixels == 0) | (pixels == 1)).mean() < 0.05


@pytest.mark.usefixtures("small_references")
def test_prompt_shows_in_the_picture(pipeline: Any) -> None:
    red, blue = (edit(pipeline, f"make the car {colour}") for colour in ("red", "blue"))
    assert np.abs(red - blue).mean() > 1 / 255


def test_token_types_change_the_prompt_embeddings(pipeline: Any) -> None:
    template, dropped = prompt_template()
    vision = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"
    text = template.format(vision + "make the car red")
    inputs = pipeline.processor(text=[text], images=[picture(128, 96)], return_tensors="pt")

    def embeddings(**arguments: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            output = pipeline.text_encoder(**arguments, output_hidden_states=True)
        states: torch.Tensor = output.hidden_states[-1][:, dropped:].float()
        return states

    right = embeddings(**inputs)
    inputs.pop("mm_token_type_ids")
    assert (embeddings(**inputs) - right).norm() > 0.05 * right.norm()


def test_equal_arguments_give_equal_files(own_tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    again = build_tiny_model(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(again) == weights(own_tiny_model)


def test_seed_changes_every_weight_file(own_tiny_model: Path, tmp_path: Path) -> None:
    other = weights(build_tiny_model(tmp_path / "other", seed=1))
    first = weights(own_tiny_model)
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_dtype_only_rounds_the_weights(own_tiny_model: Path, tmp_path: Path) -> None:
    file = "vae/diffusion_pytorch_model.safetensors"
    exact = load_file(build_tiny_model(tmp_path / "exact", dtype=torch.float32) / file)
    rounded = load_file(own_tiny_model / file)
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(exact[name].bfloat16(), rounded[name]) for name in exact)


@pytest.mark.parametrize(("zero_cond_t", "layers"), [(True, 1), (False, 3)])
def test_transformer_is_configured_as_asked(tmp_path: Path, zero_cond_t: bool, layers: int) -> None:
    folder = build_tiny_model(tmp_path, zero_cond_t=zero_cond_t, layers=layers)
    config = json.loads((folder / "transformer/config.json").read_text())
    assert config["zero_cond_t"] is zero_cond_t
    assert config["num_layers"] == layers


@pytest.mark.parametrize("text", ["Paint it blue, please!", "把红色的汽车换成蓝色。", "é 🙂\n\t"])
def test_any_text_survives_the_tokenizer(pipeline: Any, text: str) -> None:
    ids = pipeline.tokenizer(text)["input_ids"]
    assert pipeline.tokenizer.decode(ids) == text


@pytest.mark.parametrize("part", ["tokenizer", "processor.tokenizer"])
def test_special_tokens_agree_with_the_text_encoder(pipeline: Any, part: str) -> None:
    tokenizer = pipeline.tokenizer if part == "tokenizer" else pipeline.processor.tokenizer
    config = pipeline.text_encoder.config
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    assert len(set(ids.values())) == len(SPECIAL_TOKENS)
    assert config.image_token_id == ids["<|image_pad|>"]
    assert config.video_token_id == ids["<|video_pad|>"]
    assert config.vision_start_token_id == ids["<|vision_start|>"]
    assert config.vision_end_token_id == ids["<|vision_end|>"]
    assert config.text_config.vocab_size == len(tokenizer)


@pytest.mark.parametrize("part", ["tokenizer", "processor"])
def test_real_vocabulary_reads_text_as_the_real_tokenizer(
    worded_model: Path, real_vocabulary: Path, part: str
) -> None:
    text = prompt_template()[0].format(f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>把车涂成 red")
    real = Qwen2Tokenizer.from_pretrained(real_vocabulary)
    own = Qwen2Tokenizer.from_pretrained(worded_model / part)
    assert own(text)["input_ids"] == real(text)["input_ids"]


def test_real_vocabulary_has_the_real_ids_and_embeddings(worded_model: Path) -> None:
    folder = worded_model / "text_encoder"
    config = json.loads((folder / "config.json").read_text())
    assert config["image_token_id"] == 151655
    assert config["vision_start_token_id"] == 151652
    files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        with safe_open(folder / files[name], framework="pt") as file:
            assert file.get_slice(name).get_shape()[0] == 152064
