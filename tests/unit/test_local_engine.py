"""The local engine against the reference pipeline, and its own promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as stock
from PIL import Image

from doubles.tiny_model import build_tiny_model
from firered_edit.pipeline.errors import EditCancelled, InputError, ResultError
from firered_edit.pipeline.geometry import Custom
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local import encoding
from firered_edit.pipeline.local import engine as local
from firered_edit.pipeline.local.latents import Tokens, decode, pack
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.preparation import prepare
from firered_edit.pipeline.request import EditRequest
from support.kinds import MakeReference

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", PlainHost())


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Callable[[torch.dtype, bool], Path]:
    """A tiny model of a dtype, its references modulated as at timestep zero or not."""

    @cache
    def build(dtype: torch.dtype, zero_cond_t: bool) -> Path:
        folder = tmp_path_factory.mktemp("variant")
        return build_tiny_model(folder / "model", dtype=dtype, zero_cond_t=zero_cond_t)

    return build


@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["no guidance", "guidance"])
@pytest.mark.parametrize("references", [1, 2, 3], ids=["1 picture", "2 pictures", "3 pictures"])
@pytest.mark.parametrize("zero_cond_t", [False, True], ids=["one time", "zero_cond_t"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_equals_the_corrected_reference_pipeline_bit_for_bit(
    dtype: torch.dtype,
    zero_cond_t: bool,
    references: int,
    guidance: float,
    variant: Callable[[torch.dtype, bool], Path],
    asked: EditRequest,
    reference: MakeReference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = variant(dtype, zero_cond_t)
    _let_the_encoder_see(SMALL_AREA, monkeypatch)
    sizes = [(96, 64), (50, 80), (128, 48)][:references]
    pictures = tuple(reference(*size) for size in sizes)
    edit = replace(asked, references=pictures, guidance_scale=guidance)
    ours = local.LocalEngine(load_folder(path, "auto", PlainHost()), PlainHost()).edit(edit)
    theirs = _reference_edit(path, dtype, edit, monkeypatch)
    assert torch.equal(ours.images[0], theirs)


SMALL_AREA = 128 * 128
"""Reading pictures of 384 x 384 pixels is most of a tiny edit; one test does it."""


def _let_the_encoder_see(area: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CONDITION_AREA", area)
    monkeypatch.setattr(stock, "CONDITION_IMAGE_SIZE", area)


def test_equals_the_reference_bit_for_bit_with_pictures_of_the_real_size(
    tiny_model: Path, model: FireRedModel, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_the_encoder_see(384 * 384, monkeypatch)
    ours = local.LocalEngine(model, PlainHost()).edit(asked)
    theirs = _reference_edit(tiny_model, torch.bfloat16, asked, monkeypatch)
    assert torch.equal(ours.images[0], theirs)


def _reference_edit(
    folder: Path, dtype: torch.dtype, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """The stock pipeline on the same placed pictures, with the token types it forgets restored."""
    prepared = prepare(asked)
    pictures = [Image.fromarray(pixels) for pixels in prepared.placed_references()]
    pipeline = QwenImageEditPlusPipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    _restore_token_types(pipeline)
    _keep_picture_sizes(pictures, monkeypatch)
    canvas = prepared.plan.canvas
    # The stock pipeline says so when guidance is off although a negative prompt is given.
    negative = {"negative_prompt": " "} if asked.guidance_scale > 1 else {}
    output = pipeline(
        image=pictures,
        prompt=prepared.prompt,
        true_cfg_scale=asked.guidance_scale,
        num_inference_steps=asked.num_inference_steps,
        width=canvas.width,
        height=canvas.height,
        generator=torch.Generator().manual_seed(asked.seed),
        output_type="pt",
        **negative,
    ).images[0]
    picture: torch.Tensor = output.permute(1, 2, 0).float()
    return picture[: prepared.plan.output.height, : prepared.plan.output.width]


def _restore_token_types(pipeline: Any) -> None:
    encoder = pipeline.text_encoder
    forward = encoder.forward

    def with_token_types(*arguments: Any, input_ids: torch.Tensor, **keywords: Any) -> Any:
        types = (input_ids == encoder.config.image_token_id).int()
        return forward(*arguments, input_ids=input_ids, mm_token_type_ids=types, **keywords)

    encoder.forward = with_token_types


def _keep_picture_sizes(pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference encodes what it is given: our pictures lie on their grid already."""
    compute, sizes = stock.calculate_dimensions, iter([picture.size for picture in pictures])

    def kept(area: int, ratio: float) -> tuple[int, int]:
        if area == stock.VAE_IMAGE_SIZE and inside.pictures:
            return next(sizes)
        inside.pictures = area == stock.CONDITION_IMAGE_SIZE
        return compute(area, ratio)

    # The first call asks for the default output size, which is not used.
    inside = SimpleNamespace(pictures=False)
    monkeypatch.setattr(stock, "calculate_dimensions", kept)


def test_the_estimate_after_the_last_step_is_the_picture(
    model: FireRedModel, asked: EditRequest
) -> None:
    """The last step goes to noise level zero, where estimate and latents are the same."""
    seen: list[torch.Tensor] = []
    host = PlainHost()
    host.preview = lambda estimate: seen.append(estimate())  # type: ignore[method-assign]
    images = local.LocalEngine(model, host).edit(asked).images
    assert [tuple(latents.shape) for latents in seen] == [(1, 16, 1, 12, 16)] * 3
    last = Tokens(pack(seen[-1]), (6, 8))
    with torch.inference_mode():
        decoded = decode(model.vae.module, last)[:90, :120]
    assert (decoded - images[0]).abs().max() < 0.1


def test_a_batch_is_the_single_runs(model: FireRedModel, asked: EditRequest) -> None:
    engine = local.LocalEngine(model, PlainHost())
    batch = engine.edit(replace(asked, num_images=3, seed=2**32 - 2)).images
    seeds = (2**32 - 2, 2**32 - 1, 0)
    singles = [engine.edit(replace(asked, seed=seed)).images[0] for seed in seeds]
    assert torch.equal(batch, torch.stack(singles))
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "another wish"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 2.0},
        {"num_inference_steps": 4},
        {"seed": 12},
    ],
)
def test_every_input_matters(
    model: FireRedModel, asked: EditRequest, change: dict[str, Any]
) -> None:
    engine = local.LocalEngine(model, PlainHost())
    before = engine.edit(asked).images
    assert not torch.equal(before, engine.edit(replace(asked, **change)).images)


def test_references_after_the_first_matter(
    model: FireRedModel, asked: EditRequest, reference: MakeReference
) -> None:
    engine = local.LocalEngine(model, PlainHost())
    first = asked.references[0]
    one, other = (
        engine.edit(replace(asked, references=(first, reference(*size)))).images
        for size in [(50, 80), (80, 50)]
    )
    assert not torch.equal(one, other)


def test_the_output_has_the_asked_size(model: FireRedModel, asked: EditRequest) -> None:
    edit = replace(asked, size=Custom(70, 111), working_megapixels=0.01, num_images=2)
    result = local.LocalEngine(model, PlainHost()).edit(edit)
    assert tuple(result.images.shape) == (2, 111, 70, 3)
    assert result.images.dtype == torch.float32
    assert 0 <= result.images.min() < result.images.max() <= 1
    assert not result.receipt.locked


PLACES = {
    "text encoder": lambda model: model.text_encoder.module.language_model.layers,
    "vision tower": lambda model: model.text_encoder.module.visual.blocks,
    "VAE encoder": lambda model: model.vae.module.encoder.down_blocks,
    "transformer": lambda model: model.transformer.module.transformer_blocks,
    "VAE decoder": lambda model: model.vae.module.decoder.up_blocks,
}


@pytest.mark.parametrize("place", PLACES)
def test_cancel_stops_before_the_next_block_and_leaves_the_next_run_unchanged(
    model: FireRedModel, asked: EditRequest, place: str
) -> None:
    fresh = local.LocalEngine(model, PlainHost()).edit(asked).images
    model.cache.clear()
    pressed, later = [], []
    first, second = PLACES[place](model)[:2]
    hooks = [
        first.register_forward_hook(lambda *_: pressed.append(True)),
        second.register_forward_hook(lambda *_: later.append(True)),
    ]
    host = PlainHost(cancelled=lambda: bool(pressed))
    with pytest.raises(EditCancelled):
        local.LocalEngine(model, host).edit(asked)
    for hook in hooks:
        hook.remove()
    assert (pressed, later) == ([True], [])
    model.cache.clear()
    assert torch.equal(local.LocalEngine(model, PlainHost()).edit(asked).images, fresh)


@pytest.mark.parametrize("phase", ["reading the prompt", "step 1/3", "step 3/3", "decoding"])
def test_cancel_between_phases_ends_the_edit(
    model: FireRedModel, asked: EditRequest, phase: str
) -> None:
    said: list[str] = []
    model.cache.clear()
    host = PlainHost(cancelled=lambda: phase in said)
    host.say = said.append  # type: ignore[method-assign]
    with pytest.raises(EditCancelled):
        local.LocalEngine(model, host).edit(asked)
    assert said[-1] == phase


def test_what_this_engine_cannot_do_is_said_before_a_weight_moves(asked: EditRequest) -> None:
    with pytest.raises(InputError, match="FireRed Stitch References"):
        local.check_local(replace(asked, references=asked.references * 2))


@pytest.fixture
def broken_vae(model: FireRedModel) -> Iterator[torch.nn.Module]:
    """The model's VAE, its last weights restored afterwards."""
    last = model.vae.module.decoder.conv_out
    kept = last.weight.detach().clone(), last.bias.detach().clone()
    yield last
    with torch.no_grad():
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (-9.0, "black")])
def test_nan_and_black_pictures_are_errors(
    model: FireRedModel,
    asked: EditRequest,
    broken_vae: torch.nn.Module,
    value: float,
    words: str,
) -> None:
    with torch.no_grad():
        broken_vae.weight.zero_()
        broken_vae.bias.fill_(value)
    with pytest.raises(ResultError, match=words):
        local.LocalEngine(model, PlainHost()).edit(asked)
