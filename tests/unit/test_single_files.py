"""ComfyUI's single files give the model of the folder, quantised ones that of their merge."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import torch
from comfy_kitchen.tensor import QuantizedTensor
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from doubles.tiny_files import (
    Quantisation,
    Weights,
    dequantised,
    move_marks_to_header,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from doubles.tiny_model import build_tiny_model
from firered_edit.pipeline.errors import (
    BrokenModelError,
    EditCancelled,
    InputError,
    MissingModelError,
    SetupError,
)
from firered_edit.pipeline.host import LayerKit, PlainHost
from firered_edit.pipeline.local.encoding import condition_pictures, encode_prompt
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.model import FireRedModel, Precision
from firered_edit.pipeline.local.weights import ModelFiles, load_files, load_folder
from firered_edit.pipeline.request import EditRequest
from support.denoised import denoised, distance
from support.inside import InsideHost
from support.kinds import MakePhoto, MakeReference

if TYPE_CHECKING:
    from torch import nn

PREFIX = "model.diffusion_model."
LAYER = "transformer_blocks.0.attn.to_q"
FORMATS: tuple[Quantisation, ...] = (
    "float8_e4m3fn",
    "int8_tensorwise",
    "mxfp8",
    "nvfp4",
    "scaled_fp8",
)
TOLERANCE = 0.04
"""Relative L2 distance of denoised latents from those of the dequantised merge. On the CPU only
int8 has one, of 0.024: it also quantises what it multiplies its weights with."""
WRONG = 20 * TOLERANCE
"""Beyond it is every format whose scales are ignored."""


class ReadsNothing(InsideHost):
    """Fails the test when a weight is read."""

    @property
    def layers(self) -> LayerKit:
        pytest.fail("a weight was about to be read")


@pytest.fixture(scope="module")
def host(tiny_model: Path) -> InsideHost:
    return InsideHost(tiny_model / "tokenizer")


@pytest.fixture
def reads_nothing(tiny_model: Path) -> ReadsNothing:
    return ReadsNothing(tiny_model / "tokenizer")


@pytest.fixture(scope="module")
def files(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The tiny model as bf16 files."""
    return _written(tiny_model, tmp_path_factory.mktemp("bf16"))


def _written(folder: Path, to: Path) -> ModelFiles:
    return ModelFiles(
        write_transformer(folder, to / "dit.safetensors"),
        write_text_encoder(folder, to / "qwen_2.5_vl.safetensors"),
        write_vae(folder, to / "qwen_image_vae.safetensors"),
    )


@pytest.fixture(scope="module")
def loaded(files: ModelFiles, host: InsideHost) -> FireRedModel:
    return load_files(files, "auto", host)


@pytest.fixture(scope="module")
def latents(loaded: FireRedModel, host: InsideHost) -> torch.Tensor:
    """What the tiny model makes of noise in bf16."""
    return denoised(loaded, host)


@pytest.fixture(scope="module")
def worded() -> Iterator[Path]:
    """With the real vocabulary; too large for pytest's folders, which outlive the run."""
    with TemporaryDirectory() as folder:
        yield build_tiny_model(Path(folder), vocabulary=InsideHost().tokenizer_folder)


@pytest.fixture(scope="module")
def worded_files(worded: Path) -> Iterator[ModelFiles]:
    with TemporaryDirectory() as folder:
        yield _written(worded, Path(folder))


@pytest.fixture(scope="module")
def small(reference: MakeReference, asked: EditRequest) -> EditRequest:
    """The smallest edit that needs every part."""
    return replace(
        asked,
        references=(reference(64, 48),),
        num_inference_steps=2,
        guidance_scale=1.0,
        acceleration="regular",
    )


@pytest.fixture(scope="module")
def picture(worded: Path, small: EditRequest) -> torch.Tensor:
    """The edit by the folder that the single files were made from."""
    inside = InsideHost()
    return LocalEngine(load_folder(worded, "auto", inside), inside).edit(small).images


@pytest.mark.parametrize("prefix", ["", PREFIX, "diffusion_model."])
def test_single_files_give_the_picture_of_the_folder_bit_for_bit(
    worded: Path,
    worded_files: ModelFiles,
    small: EditRequest,
    picture: torch.Tensor,
    tmp_path: Path,
    prefix: str,
) -> None:
    transformer = write_transformer(worded, tmp_path / "FireRed-1.1.safetensors", prefix=prefix)
    inside = InsideHost()
    model = load_files(replace(worded_files, diffusion_model=transformer), "auto", inside)
    assert (model.name, model.precision) == ("FireRed-1.1", "bfloat16")
    assert torch.equal(LocalEngine(model, inside).edit(small).images, picture)


def test_a_file_with_zero_cond_t_gives_the_latents_of_its_folder(
    tiny_model_fp32: Path, files: ModelFiles, host: InsideHost, tmp_path: Path
) -> None:
    file = write_transformer(tiny_model_fp32, tmp_path / "dit.safetensors", prefix=PREFIX)
    model = load_files(replace(files, diffusion_model=file), "auto", host)
    assert model.precision == "float32"
    folder = load_folder(tiny_model_fp32, "auto", host)
    assert_same(weights_of(model), weights_of(folder))
    # Not to the bit: in fp32 the last one depends on where in memory a file puts its tensors.
    assert distance(denoised(model, host), denoised(folder, host)) < 1e-6


def test_files_hold_the_weights_of_the_folder(
    tiny_model: Path, loaded: FireRedModel, host: InsideHost
) -> None:
    folder = load_folder(tiny_model, "auto", host)
    assert_same(weights_of(loaded), weights_of(folder))
    for part in ("text_encoder", "vae"):
        found, expected = (getattr(model, part).module for model in (loaded, folder))
        assert_same(found.state_dict(), expected.state_dict())


def weights_of(model: FireRedModel) -> Weights:
    """The transformer's, those of its modulation included."""
    return model.transformer.module.state_dict() | model.modulation.module.state_dict()


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def tensors_as_marks(file: Path) -> Path:
    return file


def header_without_prefix(file: Path) -> Path:
    """Marks in a header that names layers as the model does, unlike the keys of the tensors."""
    move_marks_to_header(file)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    header["_quantization_metadata"] = header["_quantization_metadata"].replace(PREFIX, "")
    save_file(load_file(file), file, header)
    return file


MARKS = [
    ("", tensors_as_marks),
    (PREFIX, tensors_as_marks),
    ("", move_marks_to_header),
    (PREFIX, move_marks_to_header),
    (PREFIX, header_without_prefix),
]
# The old form has one mark for the whole file.
MARKED = [
    (quantisation, *marks)
    for quantisation in FORMATS
    for marks in (MARKS[:2] if quantisation == "scaled_fp8" else MARKS)
]


@pytest.mark.parametrize(("quantisation", "prefix", "marks"), MARKED)
def test_bf16_takes_quantised_weights_by_their_scales(
    tiny_model: Path,
    files: ModelFiles,
    host: InsideHost,
    tmp_path: Path,
    quantisation: Quantisation,
    prefix: str,
    marks: Callable[[Path], Path],
) -> None:
    file = tmp_path / "quantised.safetensors"
    write_transformer(tiny_model, file, prefix=prefix, quantisation=quantisation)
    expected = dequantised(file, dtype=torch.bfloat16)
    marks(file)
    model = load_files(replace(files, diffusion_model=file), "bf16", host)
    assert model.precision == "bfloat16"
    named = {name.removeprefix(prefix): weight for name, weight in expected.items()}
    assert_same(weights_of(model), named)


@pytest.mark.parametrize("quantisation", FORMATS)
def test_quantised_weights_stay_so_and_compute_as_their_merge(
    tiny_model: Path,
    files: ModelFiles,
    loaded: FireRedModel,
    host: InsideHost,
    tmp_path: Path,
    quantisation: Quantisation,
) -> None:
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation=quantisation)
    chosen = replace(files, diffusion_model=file)
    stored = load_files(chosen, "auto", host)
    merge = denoised(load_files(chosen, "bf16", host), host)
    assert distance(denoised(stored, host), merge) <= TOLERANCE
    assert stored.precision.split(", ")[1].startswith(("unpacked to", "multiplied in"))
    limit = 0.35 if quantisation == "nvfp4" else 0.6
    assert block_bytes(stored) < limit * block_bytes(loaded)
    _ignore_scales(file)
    assert distance(denoised(load_files(chosen, "auto", host), host), merge) > WRONG


def block_bytes(model: FireRedModel) -> int:
    """Bytes of the transformer's blocks in memory, without the modulation."""
    blocks: nn.Module = model.transformer.module.transformer_blocks
    return sum(parameter.nbytes for parameter in blocks.parameters())


def _ignore_scales(file: Path) -> None:
    """Every scale becomes one; of nvfp4's two the overall one."""
    tensors = load_file(file)
    names = [name for name in tensors if name.endswith(".weight_scale_2")]
    for name in names or [name for name in tensors if name.endswith(("_scale", ".scale_weight"))]:
        exponent = tensors[name].dtype == torch.float8_e8m0fnu
        tensors[name] = torch.ones(tensors[name].shape).to(tensors[name].dtype)
        assert exponent or tensors[name].dtype == torch.float32
    save_file(tensors, file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float8_e4m3fn])
def test_whatever_else_a_quantised_file_holds_computes_in_bf16(
    tiny_model: Path, files: ModelFiles, host: InsideHost, tmp_path: Path, dtype: torch.dtype
) -> None:
    file = tmp_path / "mixed.safetensors"
    write_transformer(tiny_model, file, dtype=dtype, quantisation="float8_e4m3fn")
    chosen = replace(files, diffusion_model=file)
    stored, merge = (load_files(chosen, precision, host) for precision in PRECISE)
    assert {weight.dtype for weight in weights_of(merge).values()} == {torch.bfloat16}
    assert distance(denoised(stored, host), denoised(merge, host)) <= TOLERANCE


PRECISE: tuple[Precision, Precision] = ("auto", "bf16")


def test_scales_of_inputs_do_not_change_weights(
    tiny_model: Path, files: ModelFiles, host: InsideHost, tmp_path: Path
) -> None:
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation="float8_e4m3fn")
    expected = dequantised(file, dtype=torch.bfloat16)
    tensors = load_file(file)
    scaled = [name for name in tensors if name.endswith(".weight_scale")]
    inputs = {name.replace("weight_", "input_"): torch.tensor(0.25) for name in scaled}
    save_file(tensors | inputs, file)
    chosen = replace(files, diffusion_model=file)
    stored, merge = (load_files(chosen, precision, host) for precision in PRECISE)
    assert_same(weights_of(merge), expected)
    assert distance(denoised(stored, host), denoised(merge, host)) <= TOLERANCE


def test_a_smoothed_layer_keeps_its_smoothing_in_bf16(
    tiny_model: Path, files: ModelFiles, host: InsideHost, tmp_path: Path
) -> None:
    """Its input is multiplied by a scale; a weight without that scale is another weight."""
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation="nvfp4")
    chosen = replace(files, diffusion_model=file)
    plain = denoised(load_files(chosen, "auto", host), host)
    names = {name for name in load_file(file) if name.endswith(".weight_scale_2")}
    scale = torch.linspace(0.2, 3.0, 64, dtype=torch.bfloat16)
    smoothing = {
        name.replace("weight_scale_2", "pre_quant_scale"): scale.clone()
        for name in names
        if ".to_" in name
    }
    save_file(load_file(file) | smoothing, file)
    stored, merge = (denoised(load_files(chosen, way, host), host) for way in PRECISE)
    assert distance(stored, plain) > WRONG / 8
    assert distance(stored, merge) <= TOLERANCE


def test_the_old_scaled_text_encoder_reads_as_its_merge(
    worded: Path, worded_files: ModelFiles, photo: MakePhoto
) -> None:
    """In the form of the real `qwen_2.5_vl_7b_fp8_scaled.safetensors`."""
    old, merge = (
        worded_files.text_encoder.with_name(f"qwen_{name}.safetensors")
        for name in ("fp8_scaled", "merge")
    )
    write_text_encoder(worded, old, quantisation="scaled_fp8")
    save_file(dequantised(old, dtype=torch.bfloat16), merge)
    inside = InsideHost()
    stored, merged = (
        load_files(replace(worded_files, text_encoder=file), "auto", inside)
        for file in (old, merge)
    )
    encoders = [model.text_encoder.module for model in (stored, merged)]
    assert_same(_unscaled(encoders[0]), dict(encoders[1].named_parameters()))
    sizes = [_bytes(encoder.language_model.layers) for encoder in encoders]
    assert sizes[0] < 0.6 * sizes[1]
    words = [_read(model, inside, photo) for model in (stored, merged)]
    assert distance(*words) <= TOLERANCE


def _unscaled(module: nn.Module) -> Weights:
    named = dict(module.named_parameters())
    return {
        name: weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
        for name, weight in named.items()
    }


def _bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


@torch.inference_mode()
def _read(model: FireRedModel, host: InsideHost, photo: MakePhoto) -> torch.Tensor:
    host.load([model.text_encoder], 0)
    encoder: Any = model.text_encoder.module
    pictures = condition_pictures([photo(64, 48)])
    return encode_prompt(encoder, model.processor, "a red hat", pictures, host.device)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_plain_fp8_stays_so_and_computes_as_if_it_were_bf16(
    tiny_model: Path, files: ModelFiles, host: InsideHost, tmp_path: Path, dtype: torch.dtype
) -> None:
    chosen = ModelFiles(
        write_transformer(tiny_model, tmp_path / "fp8.safetensors", dtype=dtype),
        _cast(files.text_encoder, tmp_path / "clip_fp8.safetensors", dtype),
        files.vae,
    )
    stored, upcast = (load_files(chosen, precision, host) for precision in PRECISE)
    assert stored.precision.startswith("fp8, unpacked to bfloat16")
    assert _matrices(weights_of(stored)) == {dtype}
    assert _matrices(stored.text_encoder.module.state_dict()) == {dtype}
    assert _matrices(weights_of(upcast)) == {torch.bfloat16}
    assert torch.equal(denoised(stored, host), denoised(upcast, host))


def _cast(file: Path, to: Path, dtype: torch.dtype) -> Path:
    save_file({name: weight.to(dtype) for name, weight in load_file(file).items()}, to)
    return to


def _matrices(weights: Weights) -> set[torch.dtype]:
    """The dtypes that the weights of linear layers have in memory."""
    named = weights.items()
    return {weight.dtype for name, weight in named if weight.ndim == 2 and "embed_" not in name}


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_eight_bits_on_request_halve_the_memory(
    files: ModelFiles,
    loaded: FireRedModel,
    latents: torch.Tensor,
    host: InsideHost,
    precision: Precision,
) -> None:
    model = load_files(files, precision, host)
    assert model.precision.startswith(f"{precision} from bfloat16")
    assert block_bytes(model) < 0.55 * block_bytes(loaded)
    layers = [m.text_encoder.module.language_model.layers for m in (model, loaded)]
    assert _bytes(layers[0]) < 0.55 * _bytes(layers[1])
    assert 0 < distance(denoised(model, host), latents) < 2.5 * TOLERANCE


CONFLICTS: list[tuple[Quantisation | None, Precision]] = [
    ("float8_e4m3fn", "int8"),
    ("scaled_fp8", "int8"),
    ("mxfp8", "int8"),
    ("int8_tensorwise", "fp8"),
    ("nvfp4", "fp8"),
    ("nvfp4", "int8"),
    (None, "int8"),
]


@pytest.mark.parametrize(("stored", "precision"), CONFLICTS)
def test_another_eight_bit_format_than_the_stored_is_refused(
    tiny_model: Path,
    files: ModelFiles,
    reads_nothing: ReadsNothing,
    tmp_path: Path,
    stored: Quantisation | None,
    precision: Precision,
) -> None:
    chosen = replace(files, diffusion_model=_stored(tiny_model, tmp_path, stored))
    with pytest.raises(InputError, match=f"precision is {precision}, but 8bit.safetensors is"):
        load_files(chosen, precision, reads_nothing)


def _stored(tiny_model: Path, folder: Path, stored: Quantisation | None) -> Path:
    """In a quantised format, or in plain fp8."""
    dtype = torch.float8_e4m3fn if stored is None else None
    file = folder / "8bit.safetensors"
    return write_transformer(tiny_model, file, dtype=dtype, quantisation=stored)


AGREEMENTS: list[tuple[Quantisation | None, Precision]] = [
    ("float8_e4m3fn", "fp8"),
    ("int8_tensorwise", "int8"),
    (None, "fp8"),
]


@pytest.mark.parametrize(("stored", "precision"), AGREEMENTS)
def test_the_stored_format_may_be_asked_for(
    tiny_model: Path,
    files: ModelFiles,
    host: InsideHost,
    tmp_path: Path,
    stored: Quantisation | None,
    precision: Precision,
) -> None:
    chosen = replace(files, diffusion_model=_stored(tiny_model, tmp_path, stored))
    asked, automatic = (load_files(chosen, way, host) for way in (precision, PRECISE[0]))
    assert asked.precision == automatic.precision
    assert asked.precision.startswith(f"{precision}, ")
    assert torch.equal(denoised(asked, host), denoised(automatic, host))


def _edit_tensors(change: Callable[[Weights], Weights]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        save_file(change(load_file(file)), file)

    return damage


def _without_last(tensors: Weights) -> Weights:
    return {name: tensors[name] for name in sorted(tensors)[:-1]}


def _with_stranger(tensors: Weights) -> Weights:
    return {**tensors, "stranger.weight": torch.zeros(2)}


def _longer_bias(tensors: Weights) -> Weights:
    name = max(name for name in tensors if name.endswith(".bias"))
    return {**tensors, name: torch.zeros(5)}


def _as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _as_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", "none")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1000]),
    "cut within the header": lambda file: file.write_bytes(file.read_bytes()[:20]),
    "empty": lambda file: file.write_bytes(b""),
    "a folder": _as_folder,
    "a zip": _as_zip,
    "a pickle": lambda file: torch.save({"weight": torch.zeros(2)}, file),
    "a web page": lambda file: file.write_text("<!DOCTYPE html><title>Sign in</title>" * 40),
    "a key missing": _edit_tensors(_without_last),
    "a key too much": _edit_tensors(_with_stranger),
    "another shape": _edit_tensors(_longer_bias),
}
WORDS = {"a key missing": "lacks", "a key too much": "stranger"}
PARTS = ("diffusion_model", "text_encoder", "vae")


@pytest.mark.parametrize(("part", "damage"), list(product(PARTS, DAMAGES)))
def test_a_damaged_file_is_named_before_a_weight_of_any_is_read(
    files: ModelFiles, reads_nothing: ReadsNothing, tmp_path: Path, part: str, damage: str
) -> None:
    file = tmp_path / getattr(files, part).name
    file.write_bytes(getattr(files, part).read_bytes())
    DAMAGES[damage](file)
    with pytest.raises(BrokenModelError) as caught:
        load_files(replace(files, **{part: file}), "auto", reads_nothing)
    assert file.name in str(caught.value)
    assert WORDS.get(damage, "") in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
def test_a_file_named_like_a_pickle_is_refused_whatever_it_holds(
    files: ModelFiles, reads_nothing: ReadsNothing, tmp_path: Path, part: str
) -> None:
    file = tmp_path / f"{part}.ckpt"
    file.write_bytes(getattr(files, part).read_bytes())
    with pytest.raises(BrokenModelError, match=rf"{part}\.ckpt is not named \.safetensors"):
        load_files(replace(files, **{part: file}), "auto", reads_nothing)


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_is_gone_is_named(
    files: ModelFiles, reads_nothing: ReadsNothing, part: str
) -> None:
    gone = files.vae.with_name("gone.safetensors")
    with pytest.raises(MissingModelError, match="gone.safetensors"):
        load_files(replace(files, **{part: gone}), "auto", reads_nothing)


def _mark(content: bytes) -> Callable[[Weights], Weights]:
    mark = torch.tensor(list(content), dtype=torch.uint8)
    return lambda tensors: {**tensors, f"{LAYER}.comfy_quant": mark}


def _without_scale(tensors: Weights) -> Weights:
    gone = {f"{LAYER}.weight_scale", f"{LAYER}.scale_weight"}
    return {name: tensor for name, tensor in tensors.items() if name not in gone}


def _describe(header: str) -> Callable[[Path], None]:
    return lambda file: save_file(load_file(file), file, {"_quantization_metadata": header})


BAD_MARKS: dict[str, Callable[[Path], None]] = {
    "an unknown format": _edit_tensors(_mark(b'{"format": "int3_dream"}')),
    "no format": _edit_tensors(_mark(b"{}")),
    "not JSON": _edit_tensors(_mark(b"fp8")),
    "not text": _edit_tensors(_mark(b"\xff\xfe")),
    "no scale": _edit_tensors(_without_scale),
    "header not JSON": _describe("{"),
    "header without layers": _describe("{}"),
    "header is a list": _describe("[]"),
    "header with an unknown format": _describe(
        json.dumps({"layers": {LAYER: {"format": "int3_dream"}}})
    ),
}


@pytest.mark.parametrize("damage", BAD_MARKS)
def test_quantisation_that_cannot_be_followed_is_an_error_that_names_the_file(
    tiny_model: Path, files: ModelFiles, host: InsideHost, tmp_path: Path, damage: str
) -> None:
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation="float8_e4m3fn")
    BAD_MARKS[damage](file)
    with pytest.raises(BrokenModelError, match="q.safetensors"):
        load_files(replace(files, diffusion_model=file), "auto", host)


@pytest.mark.parametrize("quantisation", FORMATS[:-1])
def test_a_quantised_layer_without_its_scale_is_an_error(
    tiny_model: Path,
    files: ModelFiles,
    host: InsideHost,
    tmp_path: Path,
    quantisation: Quantisation,
) -> None:
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation=quantisation)
    _edit_tensors(_without_scale)(file)
    with pytest.raises(BrokenModelError, match="q.safetensors"):
        load_files(replace(files, diffusion_model=file), "auto", host)


def test_a_text_encoder_may_come_without_its_language_head(
    files: ModelFiles, loaded: FireRedModel, host: InsideHost, tmp_path: Path
) -> None:
    tensors = load_file(files.text_encoder)
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "headless.safetensors")
    chosen = replace(files, text_encoder=tmp_path / "headless.safetensors")
    found = load_files(chosen, "auto", host).text_encoder.module.state_dict()
    assert_same(found, loaded.text_encoder.module.state_dict())


def test_loading_files_can_be_cancelled(files: ModelFiles, tiny_model: Path) -> None:
    with pytest.raises(EditCancelled):
        load_files(files, "auto", InsideHost(tiny_model / "tokenizer", cancelled=lambda: True))


def test_files_need_a_vocabulary(files: ModelFiles) -> None:
    with pytest.raises(SetupError, match="no vocabulary"):
        load_files(files, "auto", PlainHost())


def test_quantised_files_need_comfyuis_layers(
    tiny_model: Path, files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainHost, "tokenizer_folder", tiny_model / "tokenizer")
    file = write_transformer(tiny_model, tmp_path / "q.safetensors", quantisation="float8_e4m3fn")
    with pytest.raises(SetupError, match="inside ComfyUI"):
        load_files(replace(files, diffusion_model=file), "auto", PlainHost())
