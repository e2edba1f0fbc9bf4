"""What an edit computed is found again by its content, and never changes a picture."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from firered_edit.pipeline.geometry import Custom
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.images import Reference
from firered_edit.pipeline.local.caches import LIMIT_BYTES, Cache, Usage, Value, digest
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.request import EditRequest
from support.inside import InsideHost, bridge
from support.kinds import MakeReference


def _value(kilobytes: int, fill: float = 0.0) -> Value:
    return (torch.full((kilobytes, 256), fill),)


def _put(cache: Cache, key: str, kilobytes: int) -> None:
    cache.get(key, lambda: _value(kilobytes), Usage())


def _never() -> Value:
    raise AssertionError("this value should have been found")


def test_a_value_is_computed_once_and_counted() -> None:
    cache, usage = Cache(), Usage()
    first = cache.get("a", lambda: _value(1, 3.0), usage)
    again = cache.get("a", _never, usage)
    assert torch.equal(first[0], again[0])
    assert again[0].unique().tolist() == [3.0]
    assert (usage.hits, usage.misses) == (1, 1)


def test_a_failed_computation_leaves_nothing_behind() -> None:
    cache = Cache()
    with pytest.raises(AssertionError):
        cache.get("a", _never, Usage())
    assert not cache.has("a")
    assert torch.equal(cache.get("a", lambda: _value(1), Usage())[0], _value(1)[0])


def test_several_tensors_are_one_value() -> None:
    cache = Cache()
    pair = (torch.arange(4), torch.arange(3.0))
    cache.get("a", lambda: pair, Usage())
    found = cache.get("a", _never, Usage())
    assert len(found) == 2
    assert all(map(torch.equal, found, pair))
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in pair]
    assert cache.size == 4 * 8 + 3 * 4


@pytest.mark.parametrize(
    ("used", "kept"), [([], "cd"), (["a"], "ad"), (["a", "b"], "bd"), (["b", "a"], "ad")]
)
def test_what_was_used_longest_ago_goes_first(used: list[str], kept: str) -> None:
    cache = Cache(limit=3 * 1024)
    for key in "abc":
        _put(cache, key, 1)
    for key in used:
        cache.get(key, _never, Usage())
    _put(cache, "d", 2)
    assert [key for key in "abcd" if cache.has(key)] == list(kept)
    assert cache.size == 3 * 1024


def test_the_limit_itself_is_allowed() -> None:
    cache = Cache(limit=2 * 1024)
    for key in "ab":
        _put(cache, key, 1)
    assert cache.has("a")


def test_the_newest_stays_even_where_it_alone_is_too_large() -> None:
    cache = Cache(limit=1024)
    _put(cache, "small", 1)
    _put(cache, "large", 5)
    assert (cache.has("small"), cache.has("large")) == (False, True)
    _put(cache, "next", 1)
    assert (cache.has("large"), cache.size) == (False, 1024)


def test_a_cleared_cache_is_empty_and_goes_on() -> None:
    cache = Cache()
    _put(cache, "a", 1)
    cache.clear()
    assert (cache.has("a"), cache.size) == (False, 0)
    _put(cache, "a", 1)
    assert cache.has("a")


def test_a_value_holds_no_more_memory_than_is_counted() -> None:
    """A piece cut out of a tensor would keep the whole of it alive."""
    cache = Cache()
    (piece,) = cache.get("a", lambda: (torch.zeros(1000)[:10],), Usage())
    assert cache.size == 40
    assert piece.untyped_storage().nbytes() == 40


def test_by_default_there_is_room_for_a_day_of_work() -> None:
    table_of_50_steps = 50 * 60 * 2 * 6 * 3072 * 2
    assert 2 * table_of_50_steps < LIMIT_BYTES <= 2 * 1024**3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((b"ab", b"c"), (b"a", b"bc")),
        (("a", "b"), ("ab",)),
        (("", "a"), ("a", "")),
        ((), ("",)),
        (("a",), ("b",)),
        ((1,), ("1",)),
        ((1,), (1.0,)),
        ((None,), ("None",)),
        ((b"1",), ("1",)),
        ((b"1",), (1,)),
        ((b"'1'",), ("1",)),
        (((1, 2),), (1, 2)),
        (((1, 2),), ([1, 2],)),
        ((0.1 + 0.2,), (0.3,)),
    ],
)
def test_different_content_has_different_keys(
    one: tuple[object, ...], other: tuple[object, ...]
) -> None:
    assert digest(*one) != digest(*other)


def test_equal_content_has_equal_keys() -> None:
    content = ("夜晚", b"\x00\xff", (64, 48), 0.987, None)
    assert digest(*content) == digest(*list(content))


@dataclass
class Work:
    """Calls of the text encoder, of the VAE's encoder, and rows of modulation computed."""

    prompts: int = 0
    pictures: int = 0
    rows: int = 0


class _Count:
    """Counts the work a model does while the context lasts."""

    def __init__(self, model: FireRedModel) -> None:
        self._model: Any = model
        self._stack = ExitStack()

    def __enter__(self) -> Work:
        work = Work()
        model = self._model
        self._watch(model.text_encoder.module.language_model.layers[0], work, "prompts")
        self._watch(model.vae.module.encoder, work, "pictures")
        for pair in model.modulation.module.layers():
            for layer in pair:
                self._watch(layer, work, "rows")
        return work

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _watch(self, layer: nn.Module, work: Work, kind: str) -> None:
        def count(*_: Any) -> None:
            setattr(work, kind, getattr(work, kind) + 1)

        self._stack.callback(layer.register_forward_hook(count).remove)


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", PlainHost())


@pytest.fixture(scope="module")
def forgetful(tiny_model: Path) -> FireRedModel:
    """The same model with a cache of its own, for edits that shall find nothing."""
    return load_folder(tiny_model, "auto", PlainHost())


@pytest.fixture(scope="module")
def small(asked: EditRequest, reference: MakeReference) -> EditRequest:
    pictures = (reference(48, 32), reference(32, 48))
    return replace(asked, references=pictures, num_inference_steps=2)


@pytest.fixture(scope="module")
def warm(model: FireRedModel, small: EditRequest) -> FireRedModel:
    """The model after an edit of ``small``."""
    LocalEngine(model, PlainHost()).edit(small)
    return model


def _negative(reference: Reference) -> Reference:
    return Reference(255 - reference.pixels)


Change = Callable[[EditRequest], EditRequest]
READ_ALL = Work(prompts=2, pictures=2, rows=8)
CHANGES: dict[str, tuple[Change, Work]] = {
    "nothing": (lambda edit: edit, Work()),
    "the seed": (lambda edit: replace(edit, seed=8), Work()),
    "the number of pictures": (lambda edit: replace(edit, num_images=2), Work()),
    "the guidance": (lambda edit: replace(edit, guidance_scale=2.0), Work()),
    "no guidance": (lambda edit: replace(edit, guidance_scale=1.0), Work()),
    "the prompt": (lambda edit: replace(edit, prompt="take it off"), Work(prompts=1)),
    "the negative prompt": (lambda edit: replace(edit, negative_prompt="dim"), Work(prompts=1)),
    # The prompt is read together with the pictures.
    "the second picture": (
        lambda edit: replace(edit, references=(edit.references[0], _negative(edit.references[1]))),
        Work(prompts=2, pictures=1),
    ),
    "a third picture": (
        lambda edit: replace(edit, references=(*edit.references, _negative(edit.references[0]))),
        Work(prompts=2, pictures=1),
    ),
    "the number of steps": (
        lambda edit: replace(edit, num_inference_steps=3),
        Work(rows=12),
    ),
    # References follow its area; of two noise levels one is 1 and one the terminal on any canvas.
    "the canvas": (
        lambda edit: replace(edit, size=Custom(64, 64)),
        Work(prompts=2, pictures=2),
    ),
    "single frames": (lambda edit: replace(edit, acceleration="regular"), Work(pictures=2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_has_changed_is_computed_and_the_picture_stays_the_same(
    warm: FireRedModel, forgetful: FireRedModel, small: EditRequest, change: str
) -> None:
    changed, expected = CHANGES[change][0](small), CHANGES[change][1]
    with _Count(warm) as work:
        remembered = LocalEngine(warm, PlainHost()).edit(changed)
    assert work == expected
    forgetful.cache.clear()
    fresh = LocalEngine(forgetful, PlainHost()).edit(changed)
    assert torch.equal(remembered.images, fresh.images)


def test_the_first_edit_reads_everything(model: FireRedModel, small: EditRequest) -> None:
    model.cache.clear()
    with _Count(model) as work:
        LocalEngine(model, PlainHost()).edit(small)
    assert work == READ_ALL


def test_a_picture_that_is_connected_twice_is_encoded_once(
    forgetful: FireRedModel, small: EditRequest
) -> None:
    forgetful.cache.clear()
    first = small.references[0]
    with _Count(forgetful) as work:
        LocalEngine(forgetful, PlainHost()).edit(replace(small, references=(first, first)))
    assert work.pictures == 1


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"seed": 9}, ["2 of 2 from cache", "2 of 2 from cache", "1 of 1 from cache"]),
        (
            {"prompt": "wear a red hat"},
            ["1 of 2 from cache", "2 of 2 from cache", "1 of 1 from cache"],
        ),
        (
            {"num_inference_steps": 4},
            ["2 of 2 from cache", "2 of 2 from cache", "0 of 1 from cache"],
        ),
        (
            {"guidance_scale": 1.0},
            ["1 of 1 from cache", "2 of 2 from cache", "1 of 1 from cache"],
        ),
    ],
)
def test_the_receipt_says_what_was_found(
    warm: FireRedModel, small: EditRequest, change: dict[str, Any], counts: list[str]
) -> None:
    LocalEngine(warm, PlainHost()).edit(small)
    receipt = LocalEngine(warm, PlainHost()).edit(replace(small, **change)).receipt
    found = receipt.details["cache"]
    assert list(found) == ["prompts", "references", "modulation tables"]
    assert list(found.values()) == counts


def test_a_copy_of_the_model_shares_what_was_read(warm: FireRedModel, small: EditRequest) -> None:
    """As another edit node on the same loader, or behind another LoRA, does."""
    LocalEngine(warm, PlainHost()).edit(small)
    with _Count(warm) as work:
        LocalEngine(replace(warm, name="another node"), PlainHost()).edit(small)
    assert work == Work()


def test_two_models_share_nothing(warm: FireRedModel, small: EditRequest, tiny_model: Path) -> None:
    LocalEngine(warm, PlainHost()).edit(small)
    other = load_folder(tiny_model, "auto", PlainHost())
    with _Count(other) as work:
        LocalEngine(other, PlainHost()).edit(small)
    assert work == READ_ALL


def test_what_an_edit_keeps_is_bounded_by_what_it_read(
    forgetful: FireRedModel, small: EditRequest
) -> None:
    """Nothing that depends on the seed is kept, nor anything of the size of the weights."""
    forgetful.cache.clear()
    engine = LocalEngine(forgetful, PlainHost())
    engine.edit(small)
    held = forgetful.cache.size
    engine.edit(replace(small, seed=1, num_images=2))
    assert forgetful.cache.size == held < 2**20


@pytest.fixture(scope="module")
def inside(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", InsideHost())


def _manager() -> Any:
    return bridge().memory.comfy.model_management


def test_the_button_that_frees_memory_empties_the_cache(
    inside: FireRedModel, small: EditRequest
) -> None:
    engine = LocalEngine(inside, InsideHost())
    before = engine.edit(small)
    assert inside.cache.size > 0
    _manager().unload_all_models()
    assert inside.cache.size == 0
    with _Count(inside) as work:
        after = engine.edit(small)
    assert work == READ_ALL
    assert torch.equal(before.images, after.images)


def test_another_model_that_needs_room_does_not_empty_it(
    inside: FireRedModel, small: EditRequest
) -> None:
    LocalEngine(inside, InsideHost()).edit(small)
    manager = _manager()
    manager.free_memory(1e30, manager.get_torch_device())
    assert manager.current_loaded_models == []
    with _Count(inside) as work:
        LocalEngine(inside, InsideHost()).edit(small)
    assert work == Work()


def test_every_cache_that_lives_is_emptied(inside: FireRedModel) -> None:
    caches = [Cache() for _ in range(3)]
    for cache in caches:
        InsideHost().on_free(cache.clear)
        _put(cache, "a", 1)
    _manager().unload_all_models()
    assert [cache.size for cache in caches] == [0, 0, 0]


def test_a_cache_lives_no_longer_than_its_model(tiny_model: Path) -> None:
    model: FireRedModel | None = load_folder(tiny_model, "auto", InsideHost())
    assert model is not None
    cache = weakref.ref(model.cache)
    model = None
    gc.collect()
    assert cache() is None
    _manager().unload_all_models()


def test_dead_listeners_are_let_go() -> None:
    def listening() -> int:
        return len(bridge().freeing._listeners)

    cache = Cache()
    InsideHost().on_free(cache.clear)
    before = listening()
    for _ in range(10):
        InsideHost().on_free(Cache().clear)
    assert listening() <= before + 1
