"""Slicing trees, their pixels and the words for their parts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firered_edit.pipeline import geometry
from firered_edit.pipeline.geometry import CELL, MEGAPIXEL, MatchImage, Size
from firered_edit.pipeline.stitching.grouping import divide
from firered_edit.pipeline.stitching.layouts import Composite, plan
from firered_edit.pipeline.stitching.trees import ASPECTS, BestTrees, Split, Tree, aspect_of
from firered_edit.pipeline.stitching.words import Step, where

COUNTS = range(4, 13)


def _sizes(count: int, megapixels: tuple[float, float]) -> list[Size]:
    rng = random.Random(count)
    sizes = []
    for _ in range(count):
        area = MEGAPIXEL * math.exp(rng.uniform(*map(math.log, megapixels)))
        aspect = math.exp(rng.uniform(-0.6, 0.6))
        sizes.append(Size(round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))))
    return sizes


SETS = [
    pytest.param(_sizes(count, megapixels), background, id=f"{count}-{name}-{background=}")
    for count in COUNTS
    for name, megapixels in (("same", (1.0, 1.0)), ("mixed", (0.25, 12.0)))
    for background in (True, False)
]


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_three_composites_hold_every_picture_once_and_in_order(
    sizes: list[Size], background: bool
) -> None:
    held = [[tile.number for tile in composite.tiles] for composite in plan(sizes, background)]
    assert len(held) == 3
    assert sorted(chain(*held)) == list(range(1, len(sizes) + 1))
    assert all(numbers == sorted(numbers) for numbers in held)
    assert held == sorted(held)
    if background:
        assert held[0] == [1]


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_every_pixel_belongs_to_exactly_one_picture(sizes: list[Size], background: bool) -> None:
    for composite in plan(sizes, background):
        owners = np.zeros((composite.size.height, composite.size.width), np.int32)
        for tile in composite.tiles:
            owners[tile.box.top : tile.box.bottom, tile.box.left : tile.box.right] += 1
            assert tile.box.right <= composite.size.width
            assert tile.box.bottom <= composite.size.height
        assert (owners == 1).all()


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_no_picture_is_stretched_beyond_a_pixel_of_each_side(
    sizes: list[Size], background: bool
) -> None:
    for composite in plan(sizes, background):
        for tile in composite.tiles:
            aspect = sizes[tile.number - 1].width / sizes[tile.number - 1].height
            found = tile.box.size
            assert abs(found.width - aspect * found.height) <= 1 + aspect


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_a_composite_is_a_megapixel_of_moderate_aspect(sizes: list[Size], background: bool) -> None:
    for composite in plan(sizes, background)[1 if background else 0 :]:
        assert composite.size.area == pytest.approx(MEGAPIXEL, rel=0.09)
        ratio = composite.size.width / composite.size.height
        assert ASPECTS[0] * 0.999 <= ratio <= ASPECTS[1] * 1.001


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_the_edit_takes_a_composite_as_it_is(sizes: list[Size], background: bool) -> None:
    """Scaled by 1, and edges repeated by less than a cell on one side only."""
    composites = [composite.size for composite in plan(sizes, background)]
    fits = geometry.plan(MatchImage(), composites, 1.0).fits
    for composite, fit in zip(composites[1:], fits[1:], strict=True):
        strips = (fit.grid.width - composite.width, fit.grid.height - composite.height)
        assert fit.scale == 1.0
        assert min(strips) == 0
        assert max(strips) < CELL


def test_the_background_keeps_its_own_size() -> None:
    sizes = [Size(4000, 3000), *_sizes(4, (1.0, 1.0))]
    assert plan(sizes, background=True)[0].size == Size(4000, 3000)
    assert plan(sizes, background=False)[0].size.area == pytest.approx(MEGAPIXEL, rel=0.09)


def test_a_layout_is_found_again() -> None:
    sizes = _sizes(9, (0.25, 12.0))
    assert plan(sizes, background=True) == plan(list(sizes), background=True)


@pytest.mark.parametrize("count", [4, 7, 12])
@pytest.mark.parametrize("side", [(2400, 300), (300, 2400), (1000, 300)])
def test_pictures_that_leave_no_choice_are_still_laid_out(
    count: int, side: tuple[int, int]
) -> None:
    for composite in plan([Size(*side)] * count, background=False):
        ratio = composite.size.width / composite.size.height
        assert 1 / 8 <= ratio <= 8
        assert len(composite.tiles) == 1 or 1 / 4.1 <= ratio <= 4.1


def _every_tree(pictures: Sequence[int]) -> list[Tree]:
    """The long way: every division into two or more, in rows and in columns."""
    if len(pictures) == 1:
        return [pictures[0]]
    trees: list[Tree] = []
    for cuts in _every_cut(len(pictures)):
        parts = [pictures[start:stop] for start, stop in cuts]
        for choice in _every_choice([_every_tree(part) for part in parts]):
            trees += [Split("row", choice), Split("column", choice)]
    return trees


def _every_cut(count: int) -> list[list[tuple[int, int]]]:
    found = []
    for pieces in range(2, count + 1):
        for cuts in combinations(range(1, count), pieces - 1):
            found.append(list(zip((0, *cuts), (*cuts, count), strict=True)))
    return found


def _every_choice(options: list[list[Tree]]) -> list[tuple[Tree, ...]]:
    chosen: list[tuple[Tree, ...]] = [()]
    for option in options:
        chosen = [(*before, tree) for before in chosen for tree in option]
    return chosen


def _least_share(tree: Tree, aspects: Sequence[float]) -> float:
    if isinstance(tree, int):
        return 1.0
    whole = aspect_of(tree, aspects)
    shares = []
    for part in tree.parts:
        aspect = aspect_of(part, aspects)
        own = aspect / whole if tree.kind == "row" else whole / aspect
        shares.append(own * _least_share(part, aspects))
    return min(shares)


def _fits(aspect: float) -> bool:
    return ASPECTS[0] * (1 - 1e-9) <= aspect <= ASPECTS[1] * (1 + 1e-9)


@settings(max_examples=60)
@given(st.lists(st.floats(0.3, 3.0), min_size=3, max_size=5))
def test_no_other_tree_leaves_the_smallest_picture_more(aspects: list[float]) -> None:
    best = BestTrees(np.array([aspects]))
    tree = best.tree(0)
    assert best.shares[0] == pytest.approx(_least_share(tree, aspects))
    others = _every_tree(range(len(aspects)))
    fitting = [each for each in others if _fits(aspect_of(each, aspects))]
    assert _fits(aspect_of(tree, aspects)) == bool(fitting) == (best.excess[0] < 1e-9)
    if fitting:
        most = max(_least_share(each, aspects) for each in fitting)
        assert best.shares[0] == pytest.approx(most, abs=1e-8)


def _least(aspects: Sequence[float], groups: Sequence[Sequence[int]]) -> float:
    """The smallest share of all, 0 where a group does not fit."""
    found = [BestTrees(np.array([[aspects[picture] for picture in group]])) for group in groups]
    return min(float(best.shares[0]) if best.excess[0] < 1e-9 else 0.0 for best in found)


@settings(max_examples=60)
@given(st.lists(st.floats(0.6, 1.7), min_size=4, max_size=6))
def test_neighbours_are_parted_only_for_a_twentieth_more(aspects: list[float]) -> None:
    pictures = range(len(aspects))
    chosen = [group.pictures for group in divide(aspects, 2)]
    assert sorted(chain(*chosen)) == list(pictures)
    every = [
        (first, [picture for picture in pictures if picture not in first])
        for length in range(1, len(aspects))
        for first in combinations(pictures, length)
    ]
    most = max(_least(aspects, groups) for groups in every)
    in_order = max(_least(aspects, (pictures[:cut], pictures[cut:])) for cut in pictures[1:])
    assert _least(aspects, chosen) >= max(0.95 * most, in_order) - 1e-9
    if in_order > 0.95 * most + 1e-9:
        assert [*chosen[0], *chosen[1]] == list(pictures)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_pictures_of_one_shape_keep_their_neighbours(count: int, background: bool) -> None:
    for composite in plan([Size(1200, 800)] * count, background):
        numbers = [tile.number for tile in composite.tiles]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


ACROSS, DOWN = True, False

WORDS: list[tuple[list[tuple[bool, int, int]], str, str]] = [
    ([], "", ""),
    ([(ACROSS, 0, 2)], "left part", "左侧部分"),
    ([(DOWN, 1, 2)], "bottom part", "下方部分"),
    ([(ACROSS, 1, 3)], "middle part", "中间部分"),
    ([(ACROSS, 1, 2), (DOWN, 1, 2)], "bottom right part", "右下部分"),
    ([(DOWN, 0, 2), (ACROSS, 0, 3)], "top left part", "左上部分"),
    ([(DOWN, 0, 2), (ACROSS, 1, 3)], "top middle part", "中上部分"),
    ([(ACROSS, 0, 2), (DOWN, 1, 3)], "middle left part", "左中部分"),
    ([(ACROSS, 1, 3), (DOWN, 1, 3)], "centre part", "正中部分"),
    ([(ACROSS, 1, 4)], "second part from the left", "左起第二部分"),
    ([(DOWN, 3, 5)], "fourth part from the top", "上起第四部分"),
    (
        [(ACROSS, 1, 2), (DOWN, 1, 2), (ACROSS, 0, 2)],
        "left part of the bottom right part",
        "右下部分的左侧部分",
    ),
    (
        [(DOWN, 1, 2), (ACROSS, 2, 4), (DOWN, 0, 2)],
        "top part of the third part from the left of the bottom part",
        "下方部分的左起第三部分的上方部分",
    ),
]


@pytest.mark.parametrize(("path", "english", "chinese"), WORDS)
def test_a_place_has_words(path: list[tuple[bool, int, int]], english: str, chinese: str) -> None:
    steps = [Step(*step) for step in path]
    assert where(steps, chinese=False) == english
    assert where(steps, chinese=True) == chinese


@st.composite
def _paths(draw: st.DrawFn, count: int, across: bool) -> list[tuple[Step, ...]]:
    """The ways to ``count`` pictures of some tree whose first split is ``across`` or not."""
    if count == 1:
        return [()]
    parts = draw(st.lists(st.integers(1, count - 1), min_size=2, max_size=count))
    while sum(parts) > count:
        parts.pop()
    parts += [1] * (count - sum(parts))
    return [
        (Step(across, index, len(parts)), *rest)
        for index, size in enumerate(parts)
        for rest in draw(_paths(size, not across))
    ]


@settings(max_examples=400)
@given(st.data(), st.integers(2, 10), st.booleans())
def test_no_two_pictures_of_a_composite_share_their_words(
    data: st.DataObject, count: int, across: bool
) -> None:
    paths = data.draw(_paths(count, across))
    for chinese in (False, True):
        words = [where(path, chinese) for path in paths]
        assert len(set(words)) == count
        assert not any(character.isdigit() for word in words for character in word)


@pytest.mark.parametrize(("sizes", "background"), SETS)
def test_words_of_real_layouts_are_never_longer_than_three_parts(
    sizes: list[Size], background: bool
) -> None:
    composites: Sequence[Composite] = plan(sizes, background)
    for composite in composites:
        words = [tile.where() for tile in composite.tiles]
        assert len(set(words)) == len(words)
        assert all(word.count("part") <= 3 for word in words)
