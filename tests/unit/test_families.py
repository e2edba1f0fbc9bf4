"""A single file's header tells which network it holds, its configuration, and whether it is fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from doubles.tiny_files import (
    Weights,
    linear_layers,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from firered_edit.pipeline.errors import BrokenModelError
from firered_edit.pipeline.host import LayerKit, PlainHost
from firered_edit.pipeline.local.checkpoints import Checkpoint, Entry, open_checkpoint
from firered_edit.pipeline.local.families import Part, encoder_part, transformer_part, vae_part
from firered_edit.pipeline.local.weights import ModelFiles, load_files

Config = dict[str, Any]

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.")
RECOGNISE: dict[str, Callable[[Checkpoint], Part]] = {
    "transformer": transformer_part,
    "text encoder": encoder_part,
    "VAE": vae_part,
}
# Which words have which number is the tokenizer's business, and the tiny model has an own one.
NUMBERS_OF_WORDS = {
    "bos_token_id",
    "eos_token_id",
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
}


class ReadsNothing(PlainHost):
    """A host with a vocabulary that fails the test when a weight is read."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    @property
    def tokenizer_folder(self) -> Path:
        return self._vocabulary

    @property
    def layers(self) -> LayerKit:
        pytest.fail("a weight was about to be read")


@pytest.fixture(scope="module")
def files(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind an artist may pick."""
    folder = tmp_path_factory.mktemp("files")
    random = folder / "random.safetensors"
    save_file({"a.table": torch.zeros(3), "b.table": torch.zeros(3)}, random)
    return {
        "transformer": write_transformer(tiny_model, folder / "transformer.safetensors"),
        "text encoder": write_text_encoder(tiny_model, folder / "text_encoder.safetensors"),
        "VAE": write_vae(tiny_model, folder / "vae.safetensors"),
        "LoRA": write_lora(folder / "lora.safetensors", linear_layers(tiny_model), "bare ab"),
        "random": random,
    }


def opened(file: Path) -> Checkpoint:
    return open_checkpoint(file.name, [file])


def plain(config: Mapping[str, Any]) -> Config:
    """``config`` as JSON has it, without what libraries note about themselves."""
    content: Config = json.loads(json.dumps(dict(config)))
    return {key: value for key, value in content.items() if not key.startswith("_")}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("folder", "zero"), [("tiny_model", False), ("tiny_model_fp32", True)])
def test_the_configuration_of_the_transformer_is_inferred(
    folder: str, zero: bool, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(folder)
    found = transformer_part(
        opened(write_transformer(path, tmp_path / "dit.safetensors", prefix=prefix))
    )
    inferred = QwenImageTransformer2DModel.from_config(dict(found.config)).config
    assert plain(inferred) == plain(QwenImageTransformer2DModel.load_config(path / "transformer"))
    assert inferred.zero_cond_t is zero


def test_the_configuration_of_the_vae_is_inferred(files: dict[str, Path], tiny_model: Path) -> None:
    inferred = AutoencoderKLQwenImage.from_config(dict(vae_part(opened(files["VAE"])).config))
    assert plain(inferred.config) == plain(AutoencoderKLQwenImage.load_config(tiny_model / "vae"))


def test_the_configuration_of_the_text_encoder_is_inferred(
    files: dict[str, Path], tiny_model: Path
) -> None:
    config = encoder_part(opened(files["text encoder"])).config
    stored = json.loads((tiny_model / "text_encoder" / "config.json").read_text())
    assert mathematics(config) == mathematics(stored)


def mathematics(config: Mapping[str, Any]) -> Config:
    """Everything in a text encoder's configuration that decides what it computes."""
    whole = Qwen2_5_VLConfig.from_dict(config_of_known_words(config)).to_dict()
    whole["text_config"] = _without(whole["text_config"], NUMBERS_OF_WORDS)
    return _without(whole, NUMBERS_OF_WORDS | {"architectures", "dtype"})


def config_of_known_words(config: Mapping[str, Any]) -> Config:
    """The library warns of the real numbers where the vocabulary is tiny."""
    none = dict.fromkeys(("bos_token_id", "eos_token_id"))
    return {**config, "text_config": {**config["text_config"], **none}}


def _without(config: Mapping[str, Any], names: set[str]) -> Config:
    return {key: value for key, value in config.items() if key not in names}


def meta(make: Callable[[], torch.nn.Module]) -> Checkpoint:
    """The header a file of this module would have."""
    with torch.device("meta"):
        tensors = make().state_dict()
    entries = {key: Entry("BF16", tuple(t.shape), 2 * t.numel()) for key, t in tensors.items()}
    return Checkpoint("real", (), entries)


def test_the_real_transformer_has_the_published_configuration() -> None:
    config = transformer_part(meta(QwenImageTransformer2DModel)).config
    assert config == {
        "patch_size": 2,
        "in_channels": 64,
        "out_channels": 16,
        "num_layers": 60,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "axes_dims_rope": (16, 56, 56),
        "zero_cond_t": False,
    }


def test_the_real_vae_has_the_published_configuration() -> None:
    assert vae_part(meta(AutoencoderKLQwenImage)).config == {"base_dim": 96, "z_dim": 16}


QWEN_7B = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}


def test_the_real_text_encoder_has_the_published_configuration() -> None:
    found = encoder_part(meta(lambda: Qwen2_5_VLModel(Qwen2_5_VLConfig.from_dict(QWEN_7B)))).config
    for part, published in QWEN_7B.items():
        assert {key: found[part][key] for key in published} == published


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(wanted, given) for wanted, given in product(RECOGNISE, [*RECOGNISE, "LoRA", "random"])],
)
def test_a_file_of_another_kind_is_named_with_its_first_key(
    files: dict[str, Path], wanted: str, given: str
) -> None:
    checkpoint = opened(files[given])
    if wanted == given:
        assert RECOGNISE[wanted](checkpoint).names
        return
    with pytest.raises(BrokenModelError) as caught:
        RECOGNISE[wanted](checkpoint)
    text = str(caught.value)
    assert text.startswith(f"{files[given].name} is not a {wanted} ")
    assert f"begins with {min(checkpoint.entries)}." in text
    assert text.endswith("Choose the right file.")
    assert len(text) <= 300


def test_a_text_encoder_without_eyes_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    blind = tmp_path / "qwen_2.5_7b.safetensors"
    tensors = load_file(files["text encoder"])
    save_file({key: t for key, t in tensors.items() if not key.startswith("visual.")}, blind)
    with pytest.raises(BrokenModelError, match="qwen_2.5_7b.* with vision"):
        encoder_part(opened(blind))


DECIDING_KEYS = [
    ("transformer", "img_in.weight"),
    ("transformer", "txt_norm.weight"),
    ("transformer", "proj_out.weight"),
    ("transformer", "transformer_blocks.0.attn.norm_q.weight"),
    ("text encoder", "model.embed_tokens.weight"),
    ("text encoder", "model.layers.0.mlp.gate_proj.weight"),
    ("text encoder", "model.layers.0.self_attn.k_proj.bias"),
    ("text encoder", "visual.patch_embed.proj.weight"),
    ("text encoder", "visual.blocks.0.mlp.gate_proj.bias"),
    ("text encoder", "visual.merger.mlp.2.bias"),
    ("VAE", "encoder.conv1.weight"),
    ("VAE", "conv2.weight"),
]


@pytest.mark.parametrize(("part", "key"), DECIDING_KEYS)
def test_a_key_that_decides_the_configuration_may_not_be_missing(
    files: dict[str, Path], part: str, key: str
) -> None:
    whole = opened(files[part])
    entries = {own: entry for own, entry in whole.entries.items() if own != key}
    with pytest.raises(BrokenModelError, match=rf"^{whole.name} .*lacks "):
        RECOGNISE[part](Checkpoint(whole.name, whole.files, entries))


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize(("part", "key"), DECIDING_KEYS)
def test_a_key_that_decides_the_configuration_may_not_have_a_senseless_shape(
    files: dict[str, Path], tiny_model: Path, part: str, key: str, shape: tuple[int, ...]
) -> None:
    file = files[part].with_name(f"senseless_{files[part].name}")
    save_file({**load_file(files[part]), key: torch.zeros(shape)}, file)
    with pytest.raises(BrokenModelError, match=file.name):
        load_files(_with(files, part, file), "auto", ReadsNothing(tiny_model / "tokenizer"))


def _with(files: dict[str, Path], part: str, file: Path) -> ModelFiles:
    chosen = {**files, part: file}
    return ModelFiles(chosen["transformer"], chosen["text encoder"], chosen["VAE"])


def _bitsandbytes(key: str, weight: torch.Tensor) -> Weights:
    return {
        key: torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8),
        f"{key}.absmax": torch.zeros(weight.numel() // 64, dtype=torch.uint8),
        f"{key}.quant_map": torch.zeros(16),
        f"{key}.quant_state.bitsandbytes__nf4": torch.zeros(90, dtype=torch.uint8),
    }


def _gptq(key: str, weight: torch.Tensor) -> Weights:
    layer = key.removesuffix(".weight")
    rows, columns = weight.shape
    return {
        f"{layer}.qweight": torch.zeros(columns // 8, rows, dtype=torch.int32),
        f"{layer}.qzeros": torch.zeros(1, rows // 8, dtype=torch.int32),
        f"{layer}.scales": torch.zeros(1, rows),
    }


def _quanto(key: str, weight: torch.Tensor) -> Weights:
    return {f"{key}._data": weight.to(torch.int8), f"{key}._scale": torch.ones(len(weight), 1)}


def _nunchaku(key: str, weight: torch.Tensor) -> Weights:
    layer = key.removesuffix(".weight")
    return {f"{layer}.qweight": weight.to(torch.int8), f"{layer}.wscales": torch.ones(4)}


def _as(dtype: torch.dtype) -> Callable[[str, torch.Tensor], Weights]:
    return lambda key, weight: {key: weight.to(dtype)}


def _scaled(suffix: str) -> Callable[[str, torch.Tensor], Weights]:
    """fp8 with scales that nothing in the file declares: without them the weights are wrong."""
    scale = torch.tensor(0.5)
    return lambda key, weight: {
        key: weight.to(torch.float8_e4m3fn),
        key.removesuffix("weight") + suffix: scale.clone(),
    }


FOREIGN: dict[str, Callable[[str, torch.Tensor], Weights]] = {
    "bitsandbytes": _bitsandbytes,
    "gptq": _gptq,
    "quanto": _quanto,
    "nunchaku": _nunchaku,
    "int32": _as(torch.int32),
    "uint8": _as(torch.uint8),
    "int8 without scales": _as(torch.int8),
    "float64": _as(torch.float64),
    "fp8, scales of vLLM": _scaled("weight_scale"),
    "fp8, scales of another name": _scaled("scale"),
    "fp8, old scales without the mark of the file": _scaled("scale_weight"),
}


def test_nothing_is_inferred_from_packed_weights(files: dict[str, Path], tmp_path: Path) -> None:
    """At the real size the network that their shapes suggest would take all memory there is."""
    file = tmp_path / "nf4.safetensors"
    save_file(_foreign(load_file(files["transformer"]), _bitsandbytes, True), file)
    with pytest.raises(BrokenModelError, match=r"nf4.* as U8, a layout that is not ComfyUI's"):
        transformer_part(opened(file))


@pytest.mark.parametrize("everywhere", [True, False], ids=["all layers", "blocks only"])
@pytest.mark.parametrize("layout", FOREIGN)
def test_layouts_that_are_not_comfyuis_are_refused(
    files: dict[str, Path], tiny_model: Path, tmp_path: Path, layout: str, everywhere: bool
) -> None:
    file = tmp_path / "foreign.safetensors"
    save_file(_foreign(load_file(files["transformer"]), FOREIGN[layout], everywhere), file)
    with pytest.raises(BrokenModelError) as caught:
        load_files(
            _with(files, "transformer", file), "auto", ReadsNothing(tiny_model / "tokenizer")
        )
    text = str(caught.value)
    assert "foreign.safetensors" in text
    assert "transformer_blocks.0" in text or "img_in" in text, "names the first offending tensor"


def _foreign(
    weights: Weights, store: Callable[[str, torch.Tensor], Weights], everywhere: bool
) -> Weights:
    result: Weights = {}
    for key, weight in weights.items():
        linear = weight.ndim == 2 and (everywhere or key.startswith("transformer_blocks."))
        result |= store(key, weight) if linear else {key: weight}
    return result
