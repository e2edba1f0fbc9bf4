"""Model files that are wrong in any way end in an error that names them, at once."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from doubles.tiny_files import (
    LoraLayout,
    Quantisation,
    linear_layers,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from firered_edit.pipeline.errors import BrokenModelError, FireRedError
from firered_edit.pipeline.local.building import construct
from firered_edit.pipeline.local.checkpoints import Checkpoint, read_json
from firered_edit.pipeline.local.families import Part
from firered_edit.pipeline.local.gguf_files import read_header
from firered_edit.pipeline.local.gguf_header import check_header
from firered_edit.pipeline.local.loras import use_lora
from firered_edit.pipeline.local.weights import ModelFiles, load_files, load_folder
from support.file_trials import LOADED, Workshop
from support.fuzz_files import PROOF, a_pickle, a_torch_pickle
from support.inside import InsideHost

pytestmark = pytest.mark.usefixtures("quick")

TRIALS = 70
SEED = 8

LAYER = "transformer_blocks.0.attn.to_q"


@pytest.fixture(scope="module")
def workshop(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    yield Workshop(tiny_model, tmp_path_factory.mktemp("fuzz"), SEED)


def test_damaged_files_end_in_an_error_that_names_them_or_in_an_edit(workshop: Workshop) -> None:
    kinds = workshop.kinds
    met = [workshop.meet(number, kinds[number % len(kinds)]) for number in range(TRIALS)]
    assert [str(each) for each in met if each.broken] == []
    outcomes = Counter(each.outcome for each in met)
    assert 0 < outcomes[LOADED] < TRIALS / 2


@pytest.mark.parametrize("disguise", [a_pickle, a_torch_pickle])
@pytest.mark.parametrize("part", ["diffusion_model", "text_encoder", "vae", "lora"])
def test_a_pickle_in_disguise_is_never_executed(
    tiny_model: Path, workshop: Workshop, tmp_path: Path, part: str, disguise: Callable[..., object]
) -> None:
    file = tmp_path / "model.safetensors"
    disguise(file, random.Random(0))
    files = _files(tiny_model, tmp_path)
    with pytest.raises(FireRedError, match=r"model\.safetensors"):
        if part == "lora":
            use_lora(load_files(files, "auto", workshop.host), file, 1.0, True, workshop.host)
        load_files(_with(files, part, file), "auto", workshop.host)
    assert not (tmp_path / PROOF).exists()


def _files(tiny: Path, at: Path) -> ModelFiles:
    return ModelFiles(
        write_transformer(tiny, at / "dit.safetensors"),
        write_text_encoder(tiny, at / "encoder.safetensors"),
        write_vae(tiny, at / "vae.safetensors"),
    )


def _with(files: ModelFiles, part: str, file: Path) -> ModelFiles:
    return ModelFiles(**{**vars(files), part: file})


@pytest.mark.parametrize("disguise", [a_pickle, a_torch_pickle])
def test_whoever_unpickles_these_is_seen(tmp_path: Path, disguise: Callable[..., object]) -> None:
    file = tmp_path / "model.pt"
    disguise(file, random.Random(0))
    if disguise is a_pickle:
        pickle.loads(file.read_bytes())  # noqa: S301 - made here
    else:
        torch.load(file, weights_only=False)
    assert (tmp_path / PROOF).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may read everything")
def test_a_file_that_may_not_be_read_is_named(
    tiny_model: Path, workshop: Workshop, tmp_path: Path
) -> None:
    files = _files(tiny_model, tmp_path)
    files.vae.chmod(0)
    with pytest.raises(BrokenModelError, match="vae.safetensors"):
        load_files(files, "auto", workshop.host)


# What the trials found -----------------------------------------------------------------------


@pytest.mark.parametrize("index", ["7", "10000000", "9" * 5000])
def test_a_layer_far_beyond_the_others_is_an_error_before_any_is_built(
    tiny_model: Path, workshop: Workshop, tmp_path: Path, index: str
) -> None:
    files = _files(tiny_model, tmp_path)
    tensors = load_file(files.diffusion_model)
    key = f"{LAYER}.weight"
    far = {**tensors, key.replace(".0.", f".{index}.", 1): tensors[key].clone()}
    save_file(far, files.diffusion_model)
    with pytest.raises(BrokenModelError, match=r"dit\.safetensors lacks layer 2 of 3"):
        load_files(files, "auto", workshop.host)


def _count(count: int) -> bytes:
    """A list of so many bytes, of which there is none."""
    return struct.pack("<QIIQ", 0, 9, 0, count)


@pytest.mark.parametrize(
    "value",
    [_count(2**62), _count(10**7), struct.pack("<QI", 0, 9) + struct.pack("<IQ", 9, 1) * 2000],
    ids=["a list without end", "a long list", "lists in lists"],
)
def test_a_gguf_header_that_counts_what_is_not_there_is_an_error_at_once(
    tmp_path: Path, value: bytes
) -> None:
    file = tmp_path / "packed.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + value)
    with pytest.raises(BrokenModelError, match=r"packed\.gguf is truncated or not"):
        read_header(file)


def test_a_vocabulary_as_long_as_the_longest_known_is_gone_through(tmp_path: Path) -> None:
    words = struct.pack("<QIIQ", 0, 9, 8, 152_064) + struct.pack("<Qc", 1, b"a") * 152_064
    file = tmp_path / "words.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + words)
    check_header(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="beyond the end"):
        check_header(file)


SCALES: list[tuple[Quantisation, str, torch.Tensor]] = [
    ("float8_e4m3fn", "weight_scale", torch.ones(3)),
    ("float8_e4m3fn", "input_scale", torch.ones(2, 2, 2)),
    ("int8_tensorwise", "weight_scale", torch.ones(3, 1)),
    ("nvfp4", "weight_scale", torch.zeros(0, dtype=torch.float8_e4m3fn)),
    ("nvfp4", "weight_scale_2", torch.ones(2)),
    ("mxfp8", "weight_scale", torch.ones(2, 2).to(torch.float8_e8m0fnu)),
    ("nvfp4", "weight_scale", torch.ones(192, 4)),
    ("float8_e4m3fn", "weight", torch.ones(2, 2).to(torch.float8_e4m3fn)),
]


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize(("quantisation", "name", "tensor"), SCALES)
def test_a_scale_of_another_shape_is_an_error_before_an_edit_meets_it(
    tiny_model: Path,
    workshop: Workshop,
    tmp_path: Path,
    quantisation: Quantisation,
    name: str,
    tensor: torch.Tensor,
    precision: Any,
) -> None:
    files = _files(tiny_model, tmp_path)
    file = write_transformer(tiny_model, files.diffusion_model, quantisation=quantisation)
    save_file({**load_file(file), f"{LAYER}.{name}": tensor}, file)
    with pytest.raises(BrokenModelError, match=rf"dit\.safetensors .* has a {name} of "):
        load_files(files, precision, workshop.host)


def test_a_scale_for_each_row_is_none_of_these(
    tiny_model: Path, workshop: Workshop, tmp_path: Path
) -> None:
    files = _files(tiny_model, tmp_path)
    file = write_transformer(tiny_model, files.diffusion_model, quantisation="int8_tensorwise")
    tensors = load_file(file)
    rows = len(tensors[f"{LAYER}.weight"])
    scale = tensors[f"{LAYER}.weight_scale"].expand(rows, 1).clone()
    save_file({**tensors, f"{LAYER}.weight_scale": scale}, file)
    assert load_files(files, "auto", workshop.host).precision.startswith("int8")


def test_a_vae_numbered_beyond_reason_is_named(
    tiny_model: Path, workshop: Workshop, tmp_path: Path
) -> None:
    files = _files(tiny_model, tmp_path)
    tensors = load_file(files.vae)
    name = next(name for name in tensors if ".upsamples.1." in name)
    tensors[name.replace(".1.", f".{'9' * 5000}.", 1)] = tensors.pop(name)
    save_file(tensors, files.vae)
    with pytest.raises(BrokenModelError, match=r"vae\.safetensors has layers numbered beyond"):
        load_files(files, "auto", workshop.host)


def test_a_gguf_tensor_between_two_places_is_named(tmp_path: Path) -> None:
    file = tmp_path / "packed.gguf"
    writer = gguf.GGUFWriter(str(file), "qwen_image")
    for name in ("first", "second"):
        writer.add_tensor(name, np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert list(read_header(file)) == ["first", "second"]
    data = file.read_bytes()
    offset = data.index(b"second") + len(b"second") + 4 + 8 + 4
    file.write_bytes(data[:offset] + struct.pack("<Q", 127) + data[offset + 8 :])
    with pytest.raises(BrokenModelError, match=r"packed\.gguf is truncated or not"):
        read_header(file)


@pytest.mark.parametrize("rank", [0, 3])
def test_a_layer_of_a_lora_that_makes_no_product_does_not_count(
    tiny_model: Path, workshop: Workshop, tmp_path: Path, rank: int
) -> None:
    model = load_files(_files(tiny_model, tmp_path), "auto", workshop.host)
    layers = linear_layers(tiny_model)
    file = write_lora(tmp_path / "style.safetensors", layers, "bare down up alpha")
    tensors = load_file(file)
    name = f"{LAYER}.lora_down.weight"
    save_file({**tensors, name: tensors[name][:rank].clone()}, file)
    handles = (model.transformer, model.modulation)
    found = workshop.host.add_lora(handles, file, 1.0)
    assert (found.matched, found.total) == (len(layers) - 1, len(layers))


def test_a_link_to_nothing_beside_what_is_needed_is_no_error(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "firered"))
    (folder / "text_encoder" / "notes.json").symlink_to("gone")
    assert load_folder(folder, "auto", InsideHost()).name == "firered"


@pytest.mark.parametrize(
    ("layout", "gone"),
    [("diffusers", "lora_A.weight"), ("lokr", "lokr_w1"), ("lokr transformer", "lokr_w2_a")],
)
def test_a_lora_with_a_layer_that_is_not_whole_is_named(
    tiny_model: Path, workshop: Workshop, tmp_path: Path, layout: LoraLayout, gone: str
) -> None:
    model = load_files(_files(tiny_model, tmp_path), "auto", workshop.host)
    file = write_lora(tmp_path / "style.safetensors", linear_layers(tiny_model), layout)
    tensors = load_file(file)
    del tensors[next(key for key in tensors if key.endswith(gone))]
    save_file(tensors, file)
    with pytest.raises(BrokenModelError, match=r"style\.safetensors has layers that are not"):
        use_lora(model, file, 1.0, True, workshop.host)


def test_a_head_of_no_width_is_named(tiny_model: Path, workshop: Workshop, tmp_path: Path) -> None:
    files = _files(tiny_model, tmp_path)
    empty = {"transformer_blocks.0.attn.norm_q.weight": torch.zeros(0)}
    save_file(load_file(files.diffusion_model) | empty, files.diffusion_model)
    with pytest.raises(BrokenModelError, match=r"dit\.safetensors has attention heads of 0"):
        load_files(files, "auto", workshop.host)


def test_what_a_library_says_of_a_file_is_told_without_where_it_lies(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "a secret place" / "firered"))
    (folder / "processor" / "video_preprocessor_config.json").write_text("<html>")
    with pytest.raises(BrokenModelError, match=r"video_preprocessor_config\.json") as caught:
        load_folder(folder, "auto", InsideHost())
    assert "a secret place" not in str(caught.value)


def test_json_too_deep_to_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(BrokenModelError, match=r"config\.json is not readable JSON"):
        read_json(tmp_path / "config.json")


def test_marks_too_deep_to_read_are_named(
    tiny_model: Path, workshop: Workshop, tmp_path: Path
) -> None:
    files = _files(tiny_model, tmp_path)
    header = {"_quantization_metadata": "[" * 100_000}
    save_file(load_file(files.diffusion_model), files.diffusion_model, header)
    with pytest.raises(BrokenModelError, match=r"dit\.safetensors describes its quantisation"):
        load_files(files, "auto", workshop.host)


def _set(file: str, name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, name: value}))

    return change


SETTINGS = {
    "layers without end": _set("transformer/config.json", "num_layers", 10**9),
    "heads without end": _set("transformer/config.json", "num_attention_heads", 10**9),
    "axes without end": _set("transformer/config.json", "axes_dims_rope", [10**9] * 3),
    "blocks without end": _set("vae/config.json", "num_res_blocks", 10**9),
    "an unknown shift": _set("scheduler/scheduler_config.json", "time_shift_type", "x"),
    "a shift that is no number": _set("scheduler/scheduler_config.json", "base_shift", {}),
    "steps without end": _set("scheduler/scheduler_config.json", "num_train_timesteps", 2**40),
    "steps of another kind": _set("scheduler/scheduler_config.json", "num_train_timesteps", "x"),
    "no word for yes or no": _set("text_encoder/config.json", "tie_word_embeddings", {}),
    "a vocabulary of another kind": _set("processor/tokenizer.json", "decoder", {"a": {}}),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.timeout(60)
def test_a_setting_that_makes_no_sense_names_its_part(
    tiny_model: Path, tmp_path: Path, setting: str
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "firered"))
    SETTINGS[setting](folder)
    with pytest.raises(BrokenModelError, match="transformer|vae|scheduler|encoder|processor"):
        load_folder(folder, "auto", InsideHost())


def test_no_more_is_built_than_files_hold() -> None:
    """A configuration may describe what its files do not tell, such as blocks within blocks."""

    def make(_: object) -> nn.Module:
        return nn.Sequential(*(nn.Linear(1, 1) for _ in range(1000)))

    nothing = Part(Checkpoint("vae", (), {}), {}, {})
    with pytest.raises(ValueError, match="more layers than its files hold"):
        construct(nothing, make)
