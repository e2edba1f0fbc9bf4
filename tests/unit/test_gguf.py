"""GGUF transformers: packed in memory, exact when they compute, LoRAs on what was unpacked."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from doubles.tiny_files import (
    Weights,
    linear_layers,
    lora_delta,
    merged,
    write_lora,
    write_text_encoder,
    write_vae,
)
from firered_edit.pipeline.errors import (
    BrokenModelError,
    InputError,
    MissingModelError,
    MissingPackageError,
    SetupError,
)
from firered_edit.pipeline.host import Handle, PlainHost
from firered_edit.pipeline.local import gguf_files
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.loras import use_lora
from firered_edit.pipeline.local.model import FireRedModel, Precision
from firered_edit.pipeline.local.weights import ModelFiles, load_files
from firered_edit.pipeline.request import EditRequest
from support.denoised import denoised, distance
from support.inside import InsideHost, bridge
from support.kinds import MakeReference

Kind = gguf.GGMLQuantizationType

# Where in a block the numbers in half precision lie: random bytes would make them NaN.
HALVES = {"Q6_K": [208], "Q3_K": [108], "Q2_K": [80, 82]} | {
    kind: [0, 2] for kind in ("Q4_1", "Q5_1", "Q4_K", "Q5_K")
}
BF16_STEP = 2.0**-8


def _random_blocks(kind: str, rows: int, columns: int) -> np.ndarray[Any, Any]:
    """A weight (rows, bytes of a row) that the format could hold."""
    weights, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    rng = np.random.default_rng(len(kind) + size)
    blocks = rng.integers(0, 256, (rows * columns // weights, size), dtype=np.uint8)
    for start in HALVES.get(kind, [0]):
        half = rng.normal(0, 0.01, (len(blocks), 1)).astype(np.float16)
        blocks[:, start : start + 2] = half.view(np.uint8)
    return blocks.reshape(rows, -1)


@dataclass(frozen=True)
class Files:
    """The tiny model as single files; the transformer's is written as asked."""

    tiny: Path
    text_encoder: Path
    vae: Path
    folder: Path

    def packed(
        self, kind: str, *, architecture: str | None = "qwen_image", prefix: str = ""
    ) -> Path:
        """The transformer with every matrix packed as ``kind`` and the rest in F32."""
        file = self.folder / f"{kind}-{architecture}-{len(prefix)}.gguf"
        if not file.exists():
            matrices = {prefix + name: weight for name, weight in self.weights().items()}
            _write(file, matrices, kind, architecture)
        return file

    def plain(self, weights: Weights, name: str) -> Path:
        """``weights`` as the safetensors file of a transformer."""
        file = self.folder / f"{name}.safetensors"
        save_file({key: weight.contiguous() for key, weight in weights.items()}, file)
        return file

    def weights(self) -> Weights:
        shards = (self.tiny / "transformer").glob("*.safetensors")
        return {name: weight for shard in shards for name, weight in load_file(shard).items()}

    def load(
        self, transformer: Path, precision: Precision = "auto", host: PlainHost | None = None
    ) -> FireRedModel:
        files = ModelFiles(transformer, self.text_encoder, self.vae)
        return load_files(files, precision, host or self.host())

    def host(self, kind: type[InsideHost] = InsideHost) -> InsideHost:
        """A host of ``kind`` with the tiny model's vocabulary."""
        vocabulary = property(lambda _: self.tiny / "tokenizer")
        return type("Host", (kind,), {"tokenizer_folder": vocabulary})()


def _write(file: Path, weights: Weights, kind: str, architecture: str | None) -> None:
    writer = gguf.GGUFWriter(str(file), architecture or "")  # it writes no empty one
    for name, weight in weights.items():
        form = Kind[kind] if weight.ndim == 2 else Kind.F32
        if weight.dtype == torch.int8:
            writer.add_tensor(name, weight.numpy())
        else:
            data = gguf.quants.quantize(weight.float().numpy(), form)
            writer.add_tensor(name, data, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _unpacked(file: Path) -> Weights:
    """What is in ``file`` by the library's own account, in bf16."""
    return {
        tensor.name: torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        .reshape(*reversed(tensor.shape.tolist()))
        .bfloat16()
        for tensor in gguf.GGUFReader(str(file)).tensors
    }


@pytest.fixture(scope="module")
def files(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("gguf")
    encoder = write_text_encoder(tiny_model, folder / "encoder.safetensors")
    return Files(tiny_model, encoder, write_vae(tiny_model, folder / "vae.safetensors"), folder)


@pytest.fixture(scope="module")
def model(files: Files) -> FireRedModel:
    return files.load(files.packed("Q8_0"))


@pytest.fixture(scope="module")
def loras(files: Files, model: FireRedModel) -> Callable[[int], FireRedModel]:
    """``model`` with a random LoRA on every linear layer, by its number."""

    @cache
    def add(seed: int) -> FireRedModel:
        layers = linear_layers(files.tiny)
        file = write_lora(files.folder / f"{seed}.safetensors", layers, "bare ab", seed=seed)
        return use_lora(model, file, 1.0, False, files.host())

    return add


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", gguf_files.PACKED)
def test_unpacking_gives_the_librarys_numbers(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_files, "_CHUNK", 1024)  # several chunks, the last one not full
    packed = _random_blocks(kind, rows=7, columns=512)
    expected = torch.from_numpy(gguf.quants.dequantize(packed, Kind[kind])).to(dtype)
    found = gguf_files.unpack(torch.from_numpy(packed), kind, (7, 512), dtype)
    assert expected.isfinite().all()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0"])
def test_computes_as_the_unpacked_file_does_bit_for_bit(files: Files, kind: str) -> None:
    file = files.packed(kind)
    packed = files.load(file)
    plain = files.load(files.plain(_unpacked(file), f"unpacked-{kind}"))
    assert packed.precision.startswith(f"{kind}, unpacked to bfloat16")
    assert torch.equal(denoised(packed, files.host()), denoised(plain, files.host()))


def test_edits(
    files: Files, model: FireRedModel, asked: EditRequest, reference: MakeReference
) -> None:
    config: Any = model.text_encoder.module.config
    config.image_token_id = model.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    quick = {"guidance_scale": 1.0, "num_inference_steps": 2, "acceleration": "regular"}
    edit = replace(asked, references=(reference(64, 48),), **quick)
    result = LocalEngine(model, files.host()).edit(edit)
    assert result.images.shape == (1, 48, 64, 3)
    assert result.receipt.details["precision"].startswith("Q8_0, unpacked to bfloat16")


@pytest.mark.parametrize("architecture", [None, "pig"])
def test_files_that_name_no_architecture_are_known_by_their_tensors(
    files: Files, model: FireRedModel, architecture: str | None
) -> None:
    other = files.packed("Q8_0", architecture=architecture, prefix="model.diffusion_model.")
    expected = denoised(model, files.host())
    assert torch.equal(denoised(files.load(other), files.host()), expected)


def _weights(model: FireRedModel) -> Iterator[tuple[str, torch.Tensor]]:
    for handle in (model.transformer, model.modulation):
        yield from handle.module.named_parameters()


def _is_packed(weight: torch.Tensor) -> bool:
    found: bool = bridge().gguf_layers.is_packed(weight)
    return found


def test_weights_stay_packed_in_memory(
    files: Files, model: FireRedModel, loras: Callable[[int], FireRedModel]
) -> None:
    for each in (model, loras(1)):
        denoised(each, files.host())
        packed = [name for name, weight in _weights(each) if _is_packed(weight)]
        assert len(packed) == len(linear_layers(files.tiny))
        held = sum(weight.nbytes for _, weight in _weights(each))
        assert held <= files.packed("Q8_0").stat().st_size
    managed: Any = model.transformer.managed
    own = sum(weight.nbytes for weight in model.transformer.module.parameters())
    assert managed.model_size() == own


def test_weights_are_not_copied_out_of_the_file(files: Files) -> None:
    loaded = files.load(files.packed("Q4_0"))
    data = [weight._qdata for _, weight in _weights(loaded) if _is_packed(weight)]  # type: ignore[attr-defined]
    assert len({tensor.untyped_storage().data_ptr() for tensor in data}) == 1


def test_bf16_unpacks_while_loading(files: Files, model: FireRedModel) -> None:
    loaded = files.load(files.packed("Q8_0"), "bf16")
    assert not any(_is_packed(weight) for _, weight in _weights(loaded))
    assert loaded.precision == "bfloat16"
    assert torch.equal(denoised(loaded, files.host()), denoised(model, files.host()))


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_other_precisions_are_refused(files: Files, precision: Precision) -> None:
    with pytest.raises(InputError, match="stored in Q8_0.*Choose auto"):
        files.load(files.packed("Q8_0"), precision)


def test_without_comfyui_it_says_so(files: Files) -> None:
    class Plain(PlainHost):
        tokenizer_folder = files.tiny / "tokenizer"

    with pytest.raises(SetupError, match="GGUF file needs ComfyUI's layers"):
        files.load(files.packed("Q8_0"), host=Plain())


class Tight(InsideHost):
    """Brings half of the layers in whole; the others cast, as on a card that is too small."""

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        for handle in handles:
            patcher: Any = handle.managed
            half = patcher.model_size() // 2
            with torch.inference_mode(False), torch.no_grad():
                patcher.unpatch_model(patcher.offload_device)
                patcher.patch_model(patcher.load_device, lowvram_model_memory=half)
            assert patcher.model.model_lowvram


class Placed(InsideHost):
    """Leaves modules where the test has put them."""

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        """Nothing moves."""


def _effective_weights(model: FireRedModel) -> Weights:
    """What every layer of the loaded transformer multiplies with, read off its answers."""
    found: Weights = {}
    for name, layer in model.transformer.module.named_modules():
        if isinstance(layer, nn.Linear):
            unit = torch.eye(layer.in_features, dtype=torch.bfloat16)
            with bridge().layers.lent(layer, {"bias": None}):
                found[f"{name}.weight"] = layer(unit).T
    return found


@pytest.fixture(params=[InsideHost, Tight], ids=["loaded whole", "half of it streamed"])
def host(files: Files, request: pytest.FixtureRequest) -> InsideHost:
    return files.host(request.param)


def test_a_lora_is_added_to_the_unpacked_weights(
    files: Files, loras: Callable[[int], FireRedModel], host: InsideHost
) -> None:
    """Exact up to bf16: the change and the sum are each rounded once, a merge rounds the sum."""
    delta = lora_delta(linear_layers(files.tiny), "bare ab", seed=1)
    exact = merged(_unpacked(files.packed("Q8_0")), delta)
    changed = loras(1)
    host.load([changed.transformer], 0)
    with torch.no_grad():
        found = _effective_weights(changed)
    assert found
    for name, weight in found.items():
        error = (weight.float() - exact[name].float()).abs().max()
        assert error < 2 * BF16_STEP * exact[name].abs().max(), name
    expected = denoised(files.load(files.plain(exact, "merged")), files.host())
    apart = distance(denoised(changed, host), expected)
    assert apart < 0.05 < 0.3 < distance(denoised(loras(2), host), expected)


def test_a_lora_on_the_modulation_alone_is_an_exact_merge(
    files: Files, model: FireRedModel
) -> None:
    host = files.host()
    layers = {name: s for name, s in linear_layers(files.tiny).items() if "_mod." in name}
    lora = write_lora(files.folder / "modulation.safetensors", layers, "bare ab")
    changed = use_lora(model, lora, 1.0, False, host)
    unpacked = {name: weight.float() for name, weight in _unpacked(files.packed("Q8_0")).items()}
    exact = merged(unpacked, lora_delta(layers, "bare ab"))
    plain = files.load(files.plain({k: w.bfloat16() for k, w in exact.items()}, "modulation-too"))
    assert distance(denoised(changed, host), denoised(model, host)) > 0.1
    assert distance(denoised(changed, host), denoised(plain, host)) < 0.05


def test_loras_come_and_go_without_a_trace(
    files: Files, model: FireRedModel, loras: Callable[[int], FireRedModel], host: InsideHost
) -> None:
    both = use_lora(loras(1), files.folder / "1.safetensors", -1.0, False, host)
    fresh = files.load(files.packed("Q8_0"))
    without, one = denoised(fresh, files.host()), denoised(loras(1), host)
    assert torch.equal(denoised(model, host), without)
    assert distance(denoised(both, host), without) < 0.05
    assert torch.equal(denoised(loras(1), host), one)
    assert torch.equal(denoised(model, host), without)


def test_an_unloaded_model_holds_no_lora(
    files: Files, loras: Callable[[int], FireRedModel]
) -> None:
    denoised(loras(1), files.host())
    patcher: Any = loras(1).transformer.managed
    functions = [getattr(layer, "weight_function", []) for layer in patcher.model.modules()]
    assert any(functions)
    patcher.detach()
    assert not any(getattr(layer, "weight_function", []) for layer in patcher.model.modules())


def test_giving_back_memory_and_taking_more_keeps_the_result(
    files: Files, loras: Callable[[int], FireRedModel]
) -> None:
    changed, host, placed = loras(1), files.host(), files.host(Placed)
    expected = denoised(changed, host)
    patcher: Any = changed.transformer.managed
    for _ in range(2):
        assert patcher.partially_unload(patcher.offload_device, patcher.model_size() // 3) > 0
        assert torch.equal(denoised(changed, placed), expected)
        patcher.partially_load(patcher.load_device, patcher.model_size() // 4)
        assert torch.equal(denoised(changed, placed), expected)
    assert torch.equal(denoised(changed, host), expected)


def test_streams_as_any_quantised_weight(files: Files, model: FireRedModel) -> None:
    """ComfyUI copies weights into one buffer of bytes and takes them from there."""
    manager = bridge().memory.comfy
    weight = next(weight for _, weight in _weights(model) if _is_packed(weight))
    bias = torch.randn(5)
    buffer = torch.zeros(
        manager.memory_management.vram_aligned_size([weight, bias]), dtype=torch.uint8
    )
    assert len(buffer) < weight.numel() * 2
    manager.model_management.cast_to_gathered([weight, bias], buffer)
    there = manager.memory_management.interpret_gathered_like([weight, bias], buffer)
    assert _is_packed(there[0])
    assert torch.equal(there[0].dequantize(), weight.dequantize())
    assert torch.equal(there[1], bias)


def test_moving_leaves_the_weight_packed_and_usable(files: Files) -> None:
    """ComfyUI evicts models in the middle of other nodes, which run in inference mode."""
    model = files.load(files.packed("Q4_0"))
    module, host = model.transformer.module, files.host()
    layer = module.transformer_blocks[0].attn.to_q
    expected = denoised(model, host)
    with torch.inference_mode():
        module.to("cpu")  # some of a streamed model is there already
        assert not layer.weight.is_inference()
        layer._apply(torch.clone)
        assert layer.weight.is_inference()
    assert torch.equal(denoised(model, host), expected)
    module.to("cpu")
    assert not layer.weight.is_inference()
    assert _is_packed(layer.weight)
    assert torch.equal(denoised(model, host), expected)


@pytest.mark.parametrize("kind", ["Q6_K", "Q4_K", "Q3_K"])
def test_a_layer_of_k_quants_computes_with_its_unpacked_weight(kind: str) -> None:
    """The tiny model is narrower than a block of 256, so these get a layer of their own."""
    layers = bridge().gguf_layers
    packed = torch.from_numpy(_random_blocks(kind, rows=64, columns=512))
    params = layers._Params(torch.bfloat16, (64, 512), kind)
    layer = nn.Linear(512, 64, dtype=torch.bfloat16)
    layer.__class__ = layers.PackedLinear
    layer.weight = nn.Parameter(layers._packed(packed, params), requires_grad=False)
    plain = torch.from_numpy(gguf.quants.dequantize(packed.numpy(), Kind[kind])).bfloat16()
    pixels = torch.randn(3, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        expected = nn.functional.linear(pixels, plain, layer.bias)
        assert torch.equal(layer(pixels), expected)
    assert layer.weight.nbytes == packed.nbytes


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def _web_page(file: Path) -> None:
    file.write_text("<!DOCTYPE html><title>404</title>")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _cut_in_the_header, _web_page, _empty])
def test_damaged_files_are_named(
    files: Files, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "firered.gguf"
    file.write_bytes(files.packed("Q8_0").read_bytes())
    damage(file)
    with pytest.raises(
        BrokenModelError, match=r"firered\.gguf is truncated or not a readable GGUF"
    ):
        files.load(file)


def test_a_missing_file_is_named(files: Files, tmp_path: Path) -> None:
    with pytest.raises(MissingModelError, match=r"nothing\.gguf is not there"):
        files.load(tmp_path / "nothing.gguf")


def test_another_architecture_is_named(files: Files) -> None:
    with pytest.raises(BrokenModelError, match="architecture flux, not of FireRed"):
        files.load(files.packed("Q8_0", architecture="flux"))


def test_another_model_without_architecture_is_known_by_its_tensors(
    files: Files, tmp_path: Path
) -> None:
    file = tmp_path / "other.gguf"
    _write(file, {"double_blocks.0.img_attn.qkv.weight": torch.ones(32, 32)}, "Q8_0", None)
    with pytest.raises(BrokenModelError, match="is not a transformer of FireRed"):
        files.load(file)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [("qwen2vl", "text encoder and VAE load from safetensors only"), ("qwen_image", "is not a")],
)
def test_text_encoder_and_vae_are_not_read_from_gguf(
    files: Files, architecture: str, words: str
) -> None:
    packed = files.packed("Q8_0", architecture=architecture)
    good = files.packed("Q8_0")
    for chosen in (
        ModelFiles(good, packed, files.vae),
        ModelFiles(good, files.text_encoder, packed),
    ):
        with pytest.raises(BrokenModelError, match=words):
            load_files(chosen, "auto", files.host())


def test_formats_that_cannot_be_unpacked_are_named(files: Files, tmp_path: Path) -> None:
    weights = files.weights()
    odd = "transformer_blocks.1.attn.to_q.weight"
    weights[odd] = torch.zeros_like(weights[odd], dtype=torch.int8)
    file = tmp_path / "odd.gguf"
    _write(file, weights, "Q8_0", "qwen_image")
    with pytest.raises(BrokenModelError, match=f"odd.gguf stores {odd} as I8"):
        files.load(file)


def test_the_missing_package_is_named_with_the_command(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "gguf" else found(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(MissingPackageError, match="pip install 'gguf>="):
        files.load(files.packed("Q8_0"))


def test_gguf_files_are_offered_beside_comfyuis_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = bridge().folders
    roots = [tmp_path / "unet", tmp_path / "diffusion_models"]
    for name in ("unet/old.gguf", "diffusion_models/quants/Q4.GGUF", "diffusion_models/a.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "diffusion_models" / "fp8.safetensors").touch()
    kinds = folders.folder_paths.folder_names_and_paths
    entry = ([str(root) for root in roots], {".safetensors"})
    monkeypatch.setitem(kinds, "diffusion_models", entry)
    monkeypatch.setitem(kinds, "vae", entry)
    assert folders.files("diffusion_models") == ["fp8.safetensors", "old.gguf", "quants/Q4.GGUF"]
    assert folders.files("vae") == ["fp8.safetensors"]
    assert folders.folder_paths.get_filename_list("diffusion_models") == ["fp8.safetensors"]
    found = folders.file("diffusion_models", "quants/Q4.GGUF")
    assert found == roots[1] / "quants" / "Q4.GGUF"
