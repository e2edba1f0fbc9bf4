"""Nothing shifts, zooms or changes size: properties over thousands of sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firered_edit.pipeline.canvas import place, restore
from firered_edit.pipeline.geometry import (
    CELL,
    MAX_ASPECT,
    MEGAPIXEL,
    Custom,
    Fit,
    MatchImage,
    Megapixels,
    Plan,
    Preset,
    Size,
    SizePolicy,
    plan,
)
from firered_edit.pipeline.images import to_tensor
from support.kinds import MakePhoto

LATENT_CELL = 8
EXACT_PX = 1e-9

thorough = settings(max_examples=5_000)
on_pixels = settings(max_examples=200)


@st.composite
def sizes(draw: st.DrawFn, longest: int = 8192) -> Size:
    """A width and height that a reference may have."""
    long = draw(st.integers(16, longest))
    short = draw(st.integers(max(16, math.ceil(long / MAX_ASPECT)), long))
    return Size(*draw(st.permutations([long, short])))


working_areas = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.05, 16))
small_areas = st.one_of(st.just(0.0), st.floats(0.01, 0.1))


@given(main=sizes(), other=sizes(), working=working_areas)
@thorough
def test_match_image_is_locked_exactly_at_every_size(
    main: Size, other: Size, working: float
) -> None:
    assume(working or main.area <= 16 * MEGAPIXEL)
    found = plan(MatchImage(2), [other, main], working)
    assert found.locked
    assert found.output == main
    _check_grids(found)
    _check_lock(found, found.fits[1], 1.0)


@given(main=sizes(), megapixels=st.floats(0.1, 16), working=working_areas)
@thorough
def test_megapixels_is_locked_exactly_at_every_size(
    main: Size, megapixels: float, working: float
) -> None:
    assume(working or megapixels < 14)
    found = plan(Megapixels(megapixels), [main], working)
    assert found.locked
    assert found.output.width % CELL == found.output.height % CELL == 0
    _check_grids(found)
    scale = min(found.output.width / main.width, found.output.height / main.height)
    _check_lock(found, found.fits[0], scale)


@given(main=sizes(), width=st.integers(64, 8192), height=st.integers(64, 8192))
@thorough
def test_any_custom_size_is_kept_and_any_reference_unstretched(
    main: Size, width: int, height: int
) -> None:
    assume(max(width, height) <= MAX_ASPECT * min(width, height))
    found = plan(Custom(width, height), [main], 1.0)
    assert found.output == Size(width, height)
    _check_grids(found)
    if not found.locked:
        assert any("recomposed" in notice for notice in found.notices)


def _check_grids(found: Plan) -> None:
    """Whole latent cells, an even number a side, and a picture that is nowhere cut.

    The strip that is padded is less than a cell of the canvas, and of the output where the
    megapixels policy rounds that to cells.
    """
    strip = CELL * (1 + found.frame[0] / found.output.width)
    for grid in (found.canvas, *(fit.grid for fit in found.fits)):
        assert grid.width // LATENT_CELL % 2 == grid.height // LATENT_CELL % 2 == 0
        assert grid.width % CELL == grid.height % CELL == 0
    for fit in found.fits:
        _, _, right, bottom = fit.box
        slack = (right - fit.source.width, bottom - fit.source.height)
        assert all(-1e-4 < pixels < strip / fit.scale for pixels in slack)


def _check_lock(found: Plan, main: Fit, scale: float) -> None:
    """One grid in and out, and a way there and back that ends where it began."""
    assert main.grid == found.canvas
    zoom_x = found.output.width / found.frame[0]
    zoom_y = found.output.height / found.frame[1]
    for x, y in _points(main.source):
        assert abs(x * main.scale * zoom_x - x * scale) <= EXACT_PX
        assert abs(y * main.scale * zoom_y - y * scale) <= EXACT_PX


def _points(size: Size) -> list[tuple[float, float]]:
    return [(0, 0), (size.width, size.height), (size.width / 2, size.height / 3)]


@given(size=sizes(longest=300), working=small_areas)
@on_pixels
def test_pixels_come_back_and_bit_for_bit_where_nothing_is_scaled(
    photo: MakePhoto, size: Size, working: float
) -> None:
    found = plan(MatchImage(), [size], working)
    pixels = photo(size.width, size.height)
    back = restore(to_tensor(place(pixels, found.fits[0])), found)
    assert back.shape == (size.height, size.width, 3)
    if found.fits[0].scale == 1:
        assert (back == to_tensor(pixels)).all()
    else:
        change = back.mean(dim=(0, 1)) - to_tensor(pixels).mean(dim=(0, 1))
        assert change.abs().max() < 1.5 / 255


@pytest.mark.parametrize("size", [(1152, 896), (1216, 832), (1344, 768), (1280, 720), (1000, 1000)])
def test_sizes_near_a_megapixel_run_as_they_are(size: tuple[int, int]) -> None:
    found = plan(MatchImage(), [Size(*size)], 1.0)
    assert found.fits[0].scale == 1
    assert found.frame == size
    assert not found.notices


@pytest.mark.parametrize(
    ("policy", "locked"),
    [(MatchImage(), True), (Preset("square"), False), (Custom(64, 128), False)],
)
def test_a_recomposed_reference_keeps_its_shape(policy: SizePolicy, locked: bool) -> None:
    found = plan(policy, [Size(900, 600)], 0.25)
    assert found.locked == locked
    fit = found.fits[0]
    assert fit.grid.width - CELL < 900 * fit.scale <= fit.grid.width
    assert fit.grid.height - CELL < 600 * fit.scale <= fit.grid.height


def test_the_strip_that_is_padded_repeats_the_edge(photo: MakePhoto) -> None:
    pixels = photo(50, 41)
    fit = plan(MatchImage(), [Size(50, 41)], 0.0).fits[0]
    placed = place(pixels, fit)
    assert placed.shape == (48, 64, 3)
    assert (placed[:41, 50:] == pixels[:, -1:]).all()
    assert (placed[41:, :50] == pixels[-1:]).all()
    assert np.array_equal(placed[:41, :50], pixels)
