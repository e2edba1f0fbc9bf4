"""What holds of the pure functions around an edit, whatever they are given."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firered_edit.pipeline.board import BAR, Board, as_clock
from firered_edit.pipeline.boxes import Box
from firered_edit.pipeline.canvas import place, restore
from firered_edit.pipeline.checks import check_choice, check_kind, check_range
from firered_edit.pipeline.drift.colour import mean_change, mean_delta_e
from firered_edit.pipeline.drift.comparing import compare
from firered_edit.pipeline.drift.motion import Motion
from firered_edit.pipeline.drift.reporting import describe, to_json
from firered_edit.pipeline.errors import MAX_LENGTH, FireRedError, InputError, clean
from firered_edit.pipeline.geometry import Custom, MatchImage, Megapixels, Preset, Size, plan
from firered_edit.pipeline.host import Phase, PlainHost
from firered_edit.pipeline.images import batch_of, references_from
from firered_edit.pipeline.masks import mask_batch, single_mask
from firered_edit.pipeline.pace import Paces, StepPace, in_turns
from firered_edit.pipeline.prompts import (
    Placement,
    check_names,
    find_names,
    renumber,
    resolve_names,
)
from firered_edit.pipeline.region import crop_region, paste_region
from firered_edit.pipeline.stitching.regions import region_of
from firered_edit.pipeline.stitching.trees import Split, Tree, aspect_of

anything: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=200),
    st.integers(),
    st.floats(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
    st.just(torch.zeros(2)),
)

# Words that prompts are made of, so that names of pictures are hit as often as missed.
_WORDS = (
    *("@image", "@图", "image", "images", "图", "图片", "第", "张图", "the", "last", "second", "@"),
    *("photo", " ", "  ", "2", "10", "99", "007", ",", " and ", "-", "、", "和", "十", "一", "#"),
    *("_", ".", "4K", "50%", "\n", "\u202e", "\u00b2", "\u0663", "１", "\U0001f600", "地图", "x"),
)
prompts = st.one_of(
    st.text(max_size=80), st.lists(st.sampled_from(_WORDS), max_size=25).map("".join)
)


# errors, checks ------------------------------------------------------------------------------


@given(problem=st.text(max_size=1000), remedy=st.text(min_size=1, max_size=120))
def test_an_error_is_short_and_ends_with_its_advice(problem: str, remedy: str) -> None:
    error = FireRedError(problem, remedy)
    assert len(str(error)) <= MAX_LENGTH
    assert str(error).endswith(remedy)
    error.about("a subject " * 20)
    assert len(str(error)) <= MAX_LENGTH
    assert str(error).endswith(remedy)


@given(st.text(max_size=400), st.integers(2, MAX_LENGTH))
def test_what_is_shown_is_one_line_without_picture_data(text: str, length: int) -> None:
    shown = clean(f"{text} data:image/png;base64,AAAA {text}", length)
    assert len(shown) <= length
    assert shown == " ".join(shown.split())
    assert "AAAA" not in shown.replace(text, "")


@given(anything, st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_value_is_in_its_range_or_refused(value: Any, low: float, more: float) -> None:
    high = low + more
    if isinstance(value, int | float) and low <= value <= high:
        check_range("steps", value, (low, high))
    else:
        with pytest.raises(InputError, match="steps is"):
            check_range("steps", value, (low, high))


@given(anything)
def test_a_choice_is_one_of_them_or_refused(value: Any) -> None:
    with pytest.raises(InputError, match="noise is .* Choose cpu, gpu"):
        check_choice("noise", value, ("cpu", "gpu"))


@given(anything)
def test_what_is_no_picture_no_mask_and_no_region_is_refused_in_words(value: Any) -> None:
    assume(not isinstance(value, torch.Tensor))
    sound = torch.rand(1, 32, 32, 3)
    for use in (
        lambda: batch_of("image_1", value),
        lambda: references_from({"image_1": value}),
        lambda: mask_batch("mask", value),
        lambda: crop_region(sound, value),
        lambda: crop_region(value, sound[..., 0]),
        lambda: paste_region(sound, value),
        lambda: compare(sound, value, None, False, PlainHost()),
        lambda: check_kind("model", value, Size, "Connect FireRed Load Model."),
    ):
        with pytest.raises(InputError, match=r" is .*\. Connect "):
            use()


@given(st.lists(st.integers(0, 5), max_size=6))
def test_any_shape_is_a_batch_of_pictures_or_refused(shape: list[int]) -> None:
    tensor = torch.zeros(shape)
    try:
        batch = batch_of("image_1", tensor)
    except InputError as error:
        assert str(tuple(shape)) in str(error)
        return
    assert batch.ndim == 4
    assert batch.shape[-1] in (1, 3, 4)
    assert batch.numel() == tensor.numel() > 0


@given(st.lists(st.integers(0, 4), max_size=5), st.sampled_from([0.0, 0.5, math.nan, math.inf]))
def test_any_shape_is_a_mask_or_refused(shape: list[int], value: float) -> None:
    try:
        mask = single_mask("mask", torch.full(shape, value))
    except InputError:
        assert not math.isfinite(value) or 0 in shape or len(shape) not in (2, 3) or shape[0] > 1
        return
    assert mask.ndim == 2
    assert mask.isfinite().all()


# geometry, canvas, boxes ---------------------------------------------------------------------

_sides = st.integers(1, 9000)
_sizes = st.builds(Size, _sides, _sides)
_policies = st.one_of(
    st.builds(MatchImage, anything),
    st.builds(Preset, anything),
    st.builds(Custom, st.integers(-5, 9999), st.integers(-5, 9999)),
    st.builds(Megapixels, st.floats(allow_nan=True)),
)


@given(_policies, st.lists(_sizes, min_size=1, max_size=3), st.floats(0, 17))
def test_any_size_is_planned_within_bounds_or_refused(
    policy: Any, sizes: list[Size], working: float
) -> None:
    try:
        found = plan(policy, sizes, working)
    except InputError as error:
        assert error.remedy
        return
    for grid in (found.canvas, *(fit.grid for fit in found.fits)):
        assert grid.width % 16 == grid.height % 16 == 0
        # An area is met but for the cells at two edges.
        assert grid.area <= 16 * 1024**2 * 1.2
    assert found.frame[0] <= found.canvas.width + 1e-6
    assert found.frame[1] <= found.canvas.height + 1e-6
    assert min(found.output.width, found.output.height) >= 16


@given(st.integers(16, 90), st.integers(16, 90), st.integers(16, 90), st.integers(16, 90))
@settings(max_examples=60)
def test_whatever_comes_back_has_exactly_the_planned_size(
    width: int, height: int, canvas_width: int, canvas_height: int
) -> None:
    assume(max(width, height) <= 8 * min(width, height))
    planned = plan(MatchImage(), [Size(width, height)], 0.0)
    pixels = np.zeros((height, width, 3), np.uint8)
    assert place(pixels, planned.fits[0]).shape == (
        planned.canvas.height,
        planned.canvas.width,
        3,
    )
    # A server may have refitted the canvas to any size.
    shown = restore(torch.rand(canvas_height, canvas_width, 3), planned)
    assert shown.shape == (height, width, 3)
    assert 0 <= shown.min() <= shown.max() <= 1


@given(_sizes, st.integers(1, 12))
def test_a_size_has_the_aspect_of_its_multiples_and_they_have_its_own(
    size: Size, times: int
) -> None:
    larger = Size(size.width * times, size.height * times)
    assert size.same_aspect(larger)
    assert larger.same_aspect(size)
    longer = Size(3 * size.width, size.height)
    assert size.height < 2 or not longer.same_aspect(size)


_boxes = st.tuples(*[st.integers(0, 60)] * 4).map(
    lambda n: Box(n[0], n[1], n[0] + n[2], n[1] + n[3])
)


@given(_boxes, st.integers(0, 80), st.integers(-50, 50), st.integers(-50, 50))
def test_a_box_grows_within_its_picture_and_moves_as_it_is(
    box: Box, pixels: int, x: int, y: int
) -> None:
    grown = box.grown(pixels, Size(130, 130))
    assert grown.left <= box.left <= box.right <= grown.right <= 130
    assert grown.top <= box.top <= box.bottom <= grown.bottom <= 130
    assert box.moved(x, y).size == box.size
    assert box.moved(x, y).moved(-x, -y) == box
    assert np.zeros((200, 200))[box.slices].shape == (box.height, box.width)


# prompts -------------------------------------------------------------------------------------


@given(prompts, st.integers(1, 12))
def test_any_prompt_is_read_and_only_its_names_change(prompt: str, count: int) -> None:
    names = find_names(prompt, count)
    assert all(prompt[name.start : name.end] == name.text for name in names)
    assert all(one.end <= other.start for one, other in pairwise(names))
    assert all(number >= 0 for name in names for number in name.numbers)
    try:
        resolved = resolve_names(prompt, count)
    except InputError:
        assert any(n > count or n < 1 for name in names if name.at for n in name.numbers)
        return
    changed = [name for name in names if name.at]
    assert changed or resolved.text == prompt
    assert resolved.notices == check_names(prompt, count)


@given(prompts, st.integers(4, 12))
def test_renumbering_names_no_picture_that_is_not_there(prompt: str, count: int) -> None:
    places = [Placement(1 + number % 3, "left part") for number in range(count)]
    moved = renumber(prompt, places)
    inside = [
        name for name in find_names(prompt, count) if all(1 <= n <= count for n in name.numbers)
    ]
    assert inside or moved == prompt
    assert moved.count("left part") >= prompt.count("left part") + len(inside)


@given(prompts, st.integers(4, 12))
def test_pictures_that_stay_where_they_are_keep_their_numbers(prompt: str, count: int) -> None:
    moved = renumber(prompt, [Placement(number, "") for number in range(1, count + 1)])
    before, after = (
        [n for name in find_names(text, count) for n in name.numbers] for text in (prompt, moved)
    )
    assert [n for n in before if 1 <= n <= count] == [n for n in after if 1 <= n <= count]


# pace, board ---------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30))
def test_a_remembered_pace_lies_within_what_was_seen_last(seconds: list[float]) -> None:
    paces = Paces()
    for each in seconds:
        paces.remember("step", each)
    kept = seconds[-5:]
    found = paces.of("step")
    assert found is not None
    assert min(kept) <= found <= max(kept)
    assert paces.of("other") is None


@given(st.integers(0, 300))
def test_no_more_kinds_are_remembered_than_there_is_room_for(kinds: int) -> None:
    paces = Paces()
    for kind in range(kinds):
        paces.remember(kind, 1.0)
    assert sum(paces.of(kind) is not None for kind in range(kinds)) == min(kinds, 64)


@given(st.lists(st.floats(0.001, 100), min_size=4, max_size=40))
def test_with_all_steps_done_what_was_expected_is_what_it_took(steps: list[float]) -> None:
    now = 0.0
    pace = StepPace(len(steps), clock=lambda: now)
    for step in steps:
        now += step
        pace.step()
    assert pace.expected_s == pytest.approx(now)


@given(st.floats(0, 1e4), st.integers(0, 1000), st.integers(-1, 50))
def test_turns_take_no_less_than_one_and_no_more_than_all(
    each: float, count: int, at_once: int
) -> None:
    whole = in_turns(each, count, at_once)
    assert whole <= each * count + 1e-6
    assert whole >= (each if count else 0)


@given(st.floats(0, 1e7))
def test_a_clock_tells_the_whole_seconds(seconds: float) -> None:
    total = 0
    for part in as_clock(seconds).split(":"):
        total = total * 60 + int(part)
    assert total == int(seconds)


_told = st.one_of(
    st.tuples(st.just("enter"), st.none()),
    st.tuples(st.just("tell"), st.sampled_from(["queued", "at fal", "loading"])),
    st.tuples(st.just("say"), st.sampled_from(["", "seed 7", "a\nb"])),
    st.tuples(st.just("advance"), st.tuples(st.integers(0, 9), st.integers(0, 9))),
    st.tuples(st.just("leave"), st.sampled_from(["done", "cancelled", "failed", "left at fal"])),
    st.tuples(st.just("wait"), st.floats(0, 100)),
)


@given(st.lists(_told, max_size=40), st.randoms(use_true_random=False))
def test_whatever_edits_tell_the_board_has_words_and_a_bar_for_it(
    told: list[tuple[str, Any]], rng: Any
) -> None:
    now, slots, bars = 0.0, [], []
    board = Board(clock=lambda: now)
    for what, value in [("enter", None), *told]:
        slot = rng.choice(slots) if slots else None
        match what:
            case "enter":
                slots.append(board.enter())
            case "wait":
                now += value
            case "tell":
                board.tell(slot, Phase(value))
            case "advance":
                board.advance(slot, *value)
            case _:
                getattr(board, what)(slot, value)
        value, total = board.bar()
        if total == BAR:
            bars.append(value)
            assert 0 <= value <= total
        assert isinstance(board.text(), str)
    assert bars == sorted(bars)
    assert board.over == all(slot.outcome for slot in slots)


# drift ---------------------------------------------------------------------------------------

_motions = st.builds(
    Motion, x=st.floats(-0.4, 0.4), y=st.floats(-0.4, 0.4), scale=st.floats(0.8, 1.25)
)


@given(_motions, _motions)
def test_a_motion_and_its_inverse_leave_everything_where_it_was(one: Motion, other: Motion) -> None:
    for still in (one.then(one.inverse()), one.inverse().then(one), one.then(Motion())):
        expected = one if still == one else Motion()
        for name in ("x", "y", "scale"):
            assert getattr(still, name) == pytest.approx(getattr(expected, name), abs=1e-9)
    assert one.then(other).scale == pytest.approx(one.scale * other.scale)
    assert Motion().reach(64, 48) == 0 <= one.reach(64, 48)


@given(st.integers(0, 2**16), st.floats(-0.5, 0.5))
def test_colours_differ_from_themselves_by_nothing_and_from_each_other_alike(
    seed: int, shift: float
) -> None:
    one, other = np.random.default_rng(seed).random((2, 3, 500)).astype(np.float32)
    assert mean_change(one, one) == (0, 0, 0)
    assert mean_delta_e(one, one) == 0
    assert mean_delta_e(one, other) == pytest.approx(mean_delta_e(other, one), rel=1e-5)
    assert mean_change(one, one + np.float32(shift)) == pytest.approx([255 * shift] * 3, abs=0.01)


@given(
    st.integers(24, 90),
    st.integers(24, 90),
    st.integers(0, 2**16),
    st.sampled_from(["noise", "flat", "step", "same"]),
    st.booleans(),
)
@settings(max_examples=40)
def test_any_two_pictures_are_compared_with_figures_that_are_numbers(
    width: int, height: int, seed: int, kind: str, align: bool
) -> None:
    rng = torch.Generator().manual_seed(seed)
    before = torch.rand(1, height, width, 3, generator=rng)
    after = {
        "noise": torch.rand(before.shape, generator=rng),
        "flat": torch.full_like(before, 0.3),
        "step": (before > 0.5).float(),
        "same": before.clone(),
    }[kind]
    found = compare(before, after, None, align, PlainHost())
    report = json.loads(to_json(found), parse_constant=pytest.fail)
    assert len(report["pictures"]) == 1
    assert "nan" not in describe(found).lower()
    if align:
        assert found.images is not None
        assert found.images.shape == before.shape
        assert found.images.isfinite().all()
    if kind == "same":
        assert (report["pictures"][0]["shift_x_px"] or 0) == 0
        assert report["pictures"][0]["delta_e_76"] == 0


# stitching -----------------------------------------------------------------------------------

_trees: st.SearchStrategy[Tree] = st.recursive(
    st.integers(0, 5),
    lambda parts: st.builds(
        Split,
        st.sampled_from(["row", "column"]),
        st.lists(parts, min_size=2, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


@given(_trees, st.lists(st.floats(0.2, 5), min_size=6, max_size=6))
def test_a_tree_of_turned_pictures_is_turned(tree: Tree, aspects: list[float]) -> None:
    assert aspect_of(tree, aspects) > 0
    turned = [1 / aspect for aspect in aspects]
    assert aspect_of(_turned(tree), turned) == pytest.approx(1 / aspect_of(tree, aspects))


def _turned(tree: Tree) -> Tree:
    if isinstance(tree, int):
        return tree
    parts = tuple(map(_turned, tree.parts))
    return Split("column" if tree.kind == "row" else "row", parts)


@given(_boxes, st.integers(20, 120), st.integers(20, 120))
def test_a_region_holds_all_that_is_marked_and_lies_in_its_picture(
    box: Box, width: int, height: int
) -> None:
    mask = torch.zeros(height, width)
    mask[box.slices] = 1.0
    size = Size(width, height)
    found = region_of(1, mask, size)
    if not mask.any():
        assert found is None
        return
    assert found is not None
    assert (found.left, found.top) >= (0, 0)
    assert found.right <= width
    assert found.bottom <= height
    outside = mask.clone()
    outside[found.slices] = 0
    assert not outside.any()
