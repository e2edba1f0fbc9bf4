"""Model folders: complete ones load, others are named before anything is read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from firered_edit.pipeline.errors import (
    BrokenModelError,
    EditCancelled,
    InputError,
    MissingModelError,
    MissingPackageError,
    SetupError,
)
from firered_edit.pipeline.host import LayerKit, PlainHost
from firered_edit.pipeline.local import weights
from firered_edit.pipeline.local.model import Precision


class ReadsNothing(PlainHost):
    """A host that fails the test when a weight is read."""

    @property
    def layers(self) -> LayerKit:
        raise AssertionError("a weight was about to be read")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "firered"))


def _truncate(folder: Path) -> None:
    file = sorted((folder / "transformer").glob("*.safetensors"))[-1]
    file.write_bytes(file.read_bytes()[:-1000])


def _other_family(folder: Path) -> None:
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "_class_name": "FluxPipeline"}))


def _other_vocabulary(folder: Path) -> None:
    file = folder / "processor" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["merges"] = []
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (shutil.rmtree, MissingModelError, "no model folder 'firered'"),
        (lambda f: (f / "model_index.json").unlink(), MissingModelError, "model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), BrokenModelError, "readable JSON"),
        (_other_family, BrokenModelError, "FluxPipeline"),
        (lambda f: shutil.rmtree(f / "vae"), MissingModelError, "vae/config.json"),
        (
            lambda f: [file.unlink() for file in (f / "vae").glob("*.safetensors")],
            MissingModelError,
            "vae/",
        ),
        (_truncate, BrokenModelError, "transformer/.* truncated"),
        (
            lambda f: (f / "scheduler" / "scheduler_config.json").unlink(),
            MissingModelError,
            "scheduler/scheduler_config.json",
        ),
    ],
)
def test_a_damaged_folder_is_named_before_a_weight_is_read(
    folder: Path, damage: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    damage(folder)
    with pytest.raises(error, match=words):
        weights.load_folder(folder, "auto", ReadsNothing())


def test_another_vocabulary_is_refused(folder: Path) -> None:
    _other_vocabulary(folder)
    with pytest.raises(BrokenModelError, match="vocabulary"):
        weights.load_folder(folder, "auto", PlainHost())


def test_a_shard_that_the_index_names_must_exist(folder: Path) -> None:
    sorted((folder / "transformer").glob("*.safetensors"))[0].unlink()
    with pytest.raises(MissingModelError, match="transformer/"):
        weights.load_folder(folder, "auto", ReadsNothing())


def test_auto_keeps_the_stored_precision(tiny_model: Path, tiny_model_fp32: Path) -> None:
    found = [
        weights.load_folder(path, "auto", PlainHost()).transformer.module.dtype
        for path in (tiny_model, tiny_model_fp32)
    ]
    assert found == [torch.bfloat16, torch.float32]


def test_bf16_is_carried_out(tiny_model_fp32: Path) -> None:
    model = weights.load_folder(tiny_model_fp32, "bf16", PlainHost())
    parts = (model.transformer, model.text_encoder, model.vae)
    assert {part.module.dtype for part in parts} == {torch.bfloat16}
    assert model.precision == "bfloat16"


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_eight_bits_need_the_layers_of_comfyui(tiny_model: Path, precision: Precision) -> None:
    with pytest.raises(SetupError, match="inside ComfyUI"):
        weights.load_folder(tiny_model, precision, PlainHost())


def test_a_precision_that_does_not_exist_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="precision"):
        weights.load_folder(tiny_model, "int4", PlainHost())  # type: ignore[arg-type]


def test_zero_cond_t_is_read_from_the_model(tiny_model: Path, tiny_model_fp32: Path) -> None:
    found = [
        weights.load_folder(path, "auto", PlainHost()).transformer.module.config.zero_cond_t
        for path in (tiny_model, tiny_model_fp32)
    ]
    assert found == [False, True]


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: re.sub(r"^model\.(language_model|visual)\.", _old_name, key),
        lambda key: re.sub(r"^(model\.(?!language_model|visual)|visual\.)", _new_name, key),
    ],
    ids=["old names", "new names"],
)
def test_both_naming_schemes_of_the_text_encoder_load(
    folder: Path, tiny_model: Path, rename: Callable[[str], str]
) -> None:
    _rename_tensors(folder / "text_encoder", rename)
    ours, expected = (
        weights.load_folder(path, "auto", PlainHost()).text_encoder.module.state_dict()
        for path in (folder, tiny_model)
    )
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[key], expected[key]) for key in expected)


def _old_name(match: re.Match[str]) -> str:
    return "model." if match[1] == "language_model" else "visual."


def _new_name(match: re.Match[str]) -> str:
    return "model.language_model." if match[1] == "model." else "model.visual."


def _rename_tensors(part: Path, rename: Callable[[str], str]) -> None:
    for file in part.glob("*.safetensors"):
        save_file({rename(key): value for key, value in load_file(file).items()}, file)
    index = next(part.glob("*.index.json"))
    content = json.loads(index.read_text())
    names = {rename(key): name for key, name in content["weight_map"].items()}
    index.write_text(json.dumps({**content, "weight_map": names}))


def _no_tokenizer(folder: Path) -> None:
    for file in (folder / "processor").glob("token*"):
        file.unlink()


def _index_leads_elsewhere(folder: Path) -> None:
    index = next((folder / "transformer").glob("*.index.json"))
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], "../vae/x.safetensors")
    index.write_text(json.dumps(content))


def _index_is_no_map(folder: Path) -> None:
    index = next((folder / "transformer").glob("*.index.json"))
    index.write_text(json.dumps({"weight_map": ["x"]}))


def _other_shapes(folder: Path) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({key: value.repeat_interleave(2, 0) for key, value in tensors.items()}, file)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_tokenizer, "processor"),
        (_index_leads_elsewhere, "does not name its files"),
        (_index_is_no_map, "does not name its files"),
        (_other_shapes, "vae has .*, not"),
    ],
)
def test_files_the_libraries_cannot_use_end_in_one_named_error(
    folder: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(folder)
    with pytest.raises(BrokenModelError, match=words):
        weights.load_folder(folder, "auto", PlainHost())


def test_plain_8_bit_weights_compute_in_bf16(folder: Path) -> None:
    for file in (folder / "transformer").glob("*.safetensors"):
        tensors = load_file(file)
        save_file({key: value.to(torch.float8_e4m3fn) for key, value in tensors.items()}, file)
    model = weights.load_folder(folder, "auto", PlainHost())
    assert model.dtype == torch.bfloat16
    assert model.precision.startswith("fp8, unpacked to bfloat16")


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_missing_tensors_are_an_error_not_random_values(folder: Path, part: str) -> None:
    file = sorted((folder / part).glob("*.safetensors"))[0]
    tensors = load_file(file)
    gone = next(key for key in tensors if "norm" in key)
    save_file({key: value for key, value in tensors.items() if key != gone}, file)
    for index in (folder / part).glob("*.index.json"):
        content = json.loads(index.read_text())
        del content["weight_map"][gone]
        index.write_text(json.dumps(content))
    with pytest.raises(BrokenModelError, match=f"{part} lacks 1 tensor, first .*norm"):
        weights.load_folder(folder, "auto", ReadsNothing())


def test_the_language_head_is_not_loaded(tiny_model: Path) -> None:
    model = weights.load_folder(tiny_model, "auto", PlainHost())
    assert not any("lm_head" in name for name, _ in model.text_encoder.module.named_parameters())


def test_parameters_can_be_changed_after_a_load_under_inference_mode(tiny_model: Path) -> None:
    with torch.inference_mode():
        model = weights.load_folder(tiny_model, "auto", PlainHost())
    assert not next(model.transformer.module.parameters()).is_inference()


def test_loading_can_be_cancelled(tiny_model: Path) -> None:
    with pytest.raises(EditCancelled):
        weights.load_folder(tiny_model, "auto", PlainHost(cancelled=lambda: True))


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.PACKAGES, "no_such_package", "no-such-package>=1")
    with pytest.raises(MissingPackageError, match="pip install 'no-such-package>=1'"):
        weights.check_packages()
