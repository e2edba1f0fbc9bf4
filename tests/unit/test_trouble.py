"""Edits that go wrong: they end in the right error, and the next one knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from firered_edit.pipeline.errors import ResultError
from firered_edit.pipeline.host import Handle, LayerKit, PlainHost, PlainKit
from firered_edit.pipeline.images import Reference
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.request import EditRequest
from support.inside import InsideHost, bridge
from support.kinds import MakeReference

pytestmark = pytest.mark.usefixtures("quick")


@dataclass
class Studio:
    """A model on its host, and the pictures of undisturbed edits on it."""

    model: Any
    make_host: Callable[[], PlainHost]
    _fresh: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)

    def edit(self, request: EditRequest) -> Any:
        return LocalEngine(self.model, self.make_host()).edit(request)

    def fresh(self, request: EditRequest) -> torch.Tensor:
        """The pictures of an edit that found nothing of those before; the next finds nothing."""
        key = (request.acceleration, request.num_images)
        self.model.cache.clear()
        if key not in self._fresh:
            self._fresh[key] = self.edit(request).images
            self.model.cache.clear()
        return self._fresh[key]


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Studio:
    return Studio(load_folder(tiny_model, "auto", PlainHost()), PlainHost)


@pytest.fixture(scope="module")
def inside(tiny_model: Path) -> Studio:
    return Studio(load_folder(tiny_model, "auto", InsideHost()), InsideHost)


@pytest.fixture(scope="module")
def small(asked: EditRequest, reference: MakeReference) -> EditRequest:
    pictures = (reference(48, 32),)
    return replace(asked, references=pictures, num_inference_steps=2)


@contextmanager
def _failing(layer: nn.Module, error: BaseException, *at: int) -> Iterator[list[int]]:
    """Within this context the ``at``-th calls of ``layer`` raise; gives a count of calls."""
    calls = [0]

    def fail(*_: Any) -> None:
        calls[0] += 1
        if calls[0] in at:
            raise error

    with layer.register_forward_pre_hook(fail):
        yield calls


@contextmanager
def _counted(layer: nn.Module) -> Iterator[list[int]]:
    with _failing(layer, AssertionError()) as calls:
        yield calls


# Where an edit is interrupted: which layer, and the how manieth of its calls.
PLACES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "text encoder": (lambda m: m.text_encoder.module.language_model.layers[1], 1),
    "text encoder, second prompt": (lambda m: m.text_encoder.module.language_model.layers[2], 2),
    "vision tower": (lambda m: m.text_encoder.module.visual.blocks[3], 1),
    "VAE encoder": (lambda m: m.vae.module.encoder.mid_block, 1),
    "table": (lambda m: m.modulation.module.transformer_blocks[1].img_mod, 2),
    "transformer": (lambda m: m.transformer.module.transformer_blocks[1].attn.to_q, 1),
    "transformer, unguided": (lambda m: m.transformer.module.transformer_blocks[0].attn.to_q, 2),
    "transformer, last step": (lambda m: m.transformer.module.transformer_blocks[1].attn.to_q, 4),
    "VAE decoder": (lambda m: m.vae.module.decoder.up_blocks[1], 1),
}


def _is_clean(model: Any) -> bool:
    """No row of the table, no hook, no frame and no mode is left."""
    blocks = model.transformer.module.transformer_blocks
    rows = [row for b in blocks for row in (b.img_mod, b.txt_mod) if hasattr(row, "value")]
    modules = [handle.module for handle in (model.transformer, model.text_encoder, model.vae)]
    hooked = [each for m in modules for each in m.modules() if each._forward_pre_hooks]
    vae = model.vae.module
    frames = [frame for frame in (*vae._feat_map, *vae._enc_feat_map) if frame is not None]
    still = [layer for layer in vae.modules() if getattr(layer, "still", False)]
    return not (rows or hooked or frames or still or vae.use_tiling)


@pytest.mark.parametrize(("host", "acceleration"), [("plain", "none"), ("inside", "regular")])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_anywhere_comes_through_and_leaves_the_next_edit_alone(
    host: str, acceleration: Any, place: str, small: EditRequest, request: pytest.FixtureRequest
) -> None:
    studio: Studio = request.getfixturevalue(host)
    edit = replace(small, acceleration=acceleration)
    expected = studio.fresh(edit)
    find, call = PLACES[place]
    # Two steps: of the reference four passes, else two with both branches in each.
    call = min(call, 4 if acceleration == "none" else 2)
    error = RuntimeError("a kernel failed")
    with _failing(find(studio.model), error, call), pytest.raises(RuntimeError) as caught:
        studio.edit(edit)
    assert caught.value is error
    assert _is_clean(studio.model)
    assert torch.equal(studio.edit(edit).images, expected)


def _manager() -> Any:
    return bridge().memory.comfy.model_management


@pytest.mark.parametrize("place", PLACES)
def test_comfyuis_own_interrupt_leaves_the_next_edit_alone(
    inside: Studio, place: str, small: EditRequest
) -> None:
    """Its layers look at the flag themselves, and raise what is no ``Exception``."""
    expected = inside.fresh(small)
    interrupted = _manager().InterruptProcessingException
    assert not issubclass(interrupted, Exception)
    find, call = PLACES[place]
    with _interrupting(find(inside.model), call), pytest.raises(interrupted):
        inside.edit(small)
    assert not _manager().processing_interrupted()
    assert _is_clean(inside.model)
    assert torch.equal(inside.edit(small).images, expected)


@contextmanager
def _interrupting(layer: nn.Module, call: int) -> Iterator[None]:
    """Within this context Cancel is pressed as ``layer`` begins for the ``call``-th time."""
    calls = [0]

    def press(*_: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            _manager().interrupt_current_processing(True)

    with layer.register_forward_pre_hook(press):
        try:
            yield
        finally:
            _manager().interrupt_current_processing(False)


@pytest.mark.parametrize("host", ["plain", "inside"])
def test_a_decode_that_runs_out_of_memory_is_tried_once_more_in_tiles(
    host: str, small: EditRequest, request: pytest.FixtureRequest
) -> None:
    """A picture no larger than a tile is then the same."""
    studio: Studio = request.getfixturevalue(host)
    expected = studio.fresh(small)
    decoder = studio.model.vae.module.decoder
    with _failing(decoder.up_blocks[1], torch.OutOfMemoryError(), 1) as calls:
        result = studio.edit(small)
    assert calls == [2]
    assert torch.equal(result.images, expected)
    assert result.receipt.details["tiles"] == (
        "decoded in 512 pixel tiles: out of memory in one piece"
    )
    assert _is_clean(studio.model)


def test_the_retry_really_is_in_tiles(
    plain: Studio, small: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = plain.model.vae.module
    seen: list[tuple[bool, int]] = []
    decode = vae.decode

    def once(*arguments: Any, **named: Any) -> Any:
        seen.append((vae.use_tiling, vae.tile_sample_min_width))
        if len(seen) == 1:
            raise torch.OutOfMemoryError
        return decode(*arguments, **named)

    monkeypatch.setattr(vae, "decode", once)
    plain.edit(small)
    assert [tiled for tiled, _ in seen] == [False, True]
    assert seen[1] == (True, 512)


def test_once_out_of_memory_the_rest_of_a_batch_is_decoded_in_tiles(
    plain: Studio, small: EditRequest
) -> None:
    batch = replace(small, num_images=3)
    expected = plain.fresh(batch)
    said: list[str] = []
    host = PlainHost()
    host.say = said.append  # type: ignore[method-assign]
    decoder = plain.model.vae.module.decoder
    with _failing(decoder, torch.OutOfMemoryError(), 2) as calls:
        result = LocalEngine(plain.model, host).edit(batch)
    assert calls == [4]
    assert said.count("decoding in tiles") == 1
    assert torch.equal(result.images, expected)


def test_a_batch_is_tried_again_only_once(plain: Studio, small: EditRequest) -> None:
    decoder, error = plain.model.vae.module.decoder, torch.OutOfMemoryError("again")
    expected = pytest.raises(torch.OutOfMemoryError)
    with _failing(decoder, error, 1, 3) as calls, expected as caught:
        plain.edit(replace(small, num_images=2))
    assert caught.value is error
    assert calls == [3]


def test_no_edit_pays_for_the_one_before(plain: Studio, small: EditRequest) -> None:
    """Running out of memory once does not make the next edit work in tiles."""
    with _failing(plain.model.vae.module.decoder, torch.OutOfMemoryError(), 1):
        plain.edit(small)
    assert plain.edit(small).receipt.details["tiles"] == "none"


@pytest.mark.parametrize("host", ["plain", "inside"])
def test_out_of_memory_in_tiles_too_is_the_real_error(
    host: str, small: EditRequest, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio: Studio = request.getfixturevalue(host)
    expected = studio.fresh(small)
    calls: list[int] = []

    def never(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise torch.OutOfMemoryError("in tiles too")

    with monkeypatch.context() as patch:
        patch.setattr(studio.model.vae.module, "decode", never)
        with pytest.raises(torch.OutOfMemoryError) as caught:
            studio.edit(small)
    assert type(caught.value) is torch.OutOfMemoryError
    assert len(calls) == 2
    assert _manager().is_oom(caught.value)
    assert _is_clean(studio.model)
    assert torch.equal(studio.edit(small).images, expected)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "VAE decoder"])
def test_out_of_memory_before_the_decode_is_not_tried_again(
    plain: Studio, place: str, small: EditRequest
) -> None:
    """ComfyUI frees memory when it sees this very error."""
    plain.model.cache.clear()
    find, call = PLACES[place]
    error = torch.OutOfMemoryError("no room")
    expected = pytest.raises(torch.OutOfMemoryError)
    with _failing(find(plain.model), error, call) as calls, expected as caught:
        plain.edit(small)
    assert caught.value is error
    assert calls == [call]
    assert _is_clean(plain.model)


class _NoRoom(PlainHost):
    """A host whose device is full."""

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        raise torch.OutOfMemoryError("no room for weights")

    @property
    def layers(self) -> LayerKit:
        return _FullKit()


class _FullKit(PlainKit):
    def fill(self, module: nn.Module, *_: Any) -> None:
        raise torch.OutOfMemoryError("no room for weights")


def test_out_of_memory_while_weights_move_comes_through(
    plain: Studio, small: EditRequest, tiny_model: Path
) -> None:
    plain.model.cache.clear()
    with pytest.raises(torch.OutOfMemoryError, match="no room for weights"):
        LocalEngine(plain.model, _NoRoom()).edit(small)
    with pytest.raises(torch.OutOfMemoryError, match="no room for weights"):
        load_folder(tiny_model, "auto", _NoRoom())


@contextmanager
def _weights(layer: Any, weight: float | None, bias: float) -> Iterator[None]:
    """Within this context ``layer`` has other weights."""
    kept = [parameter.detach().clone() for parameter in (layer.weight, layer.bias)]
    with torch.no_grad():
        if weight is not None:
            layer.weight.fill_(weight)
        layer.bias.fill_(bias)
    try:
        yield
    finally:
        with torch.no_grad():
            layer.weight.copy_(kept[0])
            layer.bias.copy_(kept[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("host", ["plain", "inside"])
def test_latents_that_are_no_numbers_are_not_decoded(
    host: str, value: float, small: EditRequest, request: pytest.FixtureRequest
) -> None:
    studio: Studio = request.getfixturevalue(host)
    expected = studio.fresh(small)
    last = studio.model.transformer.module.proj_out
    refused = pytest.raises(ResultError, match=r"NaN values.*acceleration none")
    with _counted(studio.model.vae.module.decoder) as calls, _weights(last, None, value), refused:
        studio.edit(small)
    assert calls == [0]
    assert torch.equal(studio.edit(small).images, expected)


def test_the_first_bad_picture_ends_a_batch(plain: Studio, small: EditRequest) -> None:
    last = plain.model.transformer.module.proj_out
    refused = pytest.raises(ResultError)
    with _counted(last) as calls, _weights(last, None, float("nan")), refused:
        plain.edit(replace(small, num_images=4))
    assert calls == [small.num_inference_steps * 2]


@pytest.mark.parametrize(("bias", "words"), [(-9.0, "black"), (float("nan"), "NaN")])
@pytest.mark.parametrize("acceleration", ["none", "regular"])
def test_a_picture_that_is_none_is_an_error(
    plain: Studio, small: EditRequest, acceleration: Any, bias: float, words: str
) -> None:
    edit = replace(small, acceleration=acceleration)
    expected = plain.fresh(edit)
    last = plain.model.vae.module.decoder.conv_out
    with _weights(last, 0.0, bias), pytest.raises(ResultError, match=words):
        plain.edit(edit)
    assert torch.equal(plain.edit(edit).images, expected)


def test_a_black_reference_is_no_black_result(plain: Studio, small: EditRequest) -> None:
    """Only the answer is judged, never what was asked."""
    (picture,) = small.references
    edit = replace(small, references=(Reference(picture.pixels * 0),))
    assert plain.edit(edit).images.max() > 0
