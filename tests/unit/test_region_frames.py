"""Where the crop of a region lies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firered_edit.pipeline.boxes import Box
from firered_edit.pipeline.geometry import (
    CELL,
    MAX_ASPECT,
    MAX_CANVAS_MEGAPIXELS,
    MEGAPIXEL,
    NEAR,
    MatchImage,
    Size,
    plan,
)
from firered_edit.pipeline.region.frames import Frame, find_frame


@st.composite
def _span(draw: st.DrawFn, side: int) -> tuple[int, int]:
    length = draw(st.integers(1, side))
    first = draw(st.integers(0, side - length))
    return first, first + length


@st.composite
def _masks(draw: st.DrawFn) -> tuple[Box, Size]:
    picture = Size(draw(st.integers(1, 6000)), draw(st.integers(1, 6000)))
    (left, right), (top, bottom) = draw(_span(picture.width)), draw(_span(picture.height))
    return Box(left, top, right, bottom), picture


def _megapixels(frame: Frame) -> float:
    return frame.size.area / MEGAPIXEL


@settings(max_examples=2000)
@given(
    asked=_masks(), context=st.floats(1, 4), working=st.sampled_from([0.1, 0.25, 1.0, 2.5, 16.0])
)
def test_every_frame_holds_the_mask_and_suits_the_model(
    asked: tuple[Box, Size], context: float, working: float
) -> None:
    mask, picture = asked
    frame = find_frame(mask, picture, context, working)
    inside = frame.inside(mask)
    assert 0 <= inside.left < inside.right <= frame.width + 1e-5
    assert 0 <= inside.top < inside.bottom <= frame.height + 1e-5
    assert frame.left >= 0 <= frame.top
    assert frame.size.width % CELL == frame.size.height % CELL == 0
    short, long = sorted((frame.size.width, frame.size.height))
    assert long <= MAX_ASPECT * short
    assert _megapixels(frame) == pytest.approx(working, rel=0.15 if working == 0.1 else NEAR)
    assert _megapixels(frame) <= MAX_CANVAS_MEGAPIXELS


@settings(max_examples=500)
@given(asked=_masks(), context=st.floats(1, 4), working=st.sampled_from([0.5, 1.0, 4.0, 16.0]))
def test_an_edit_runs_on_the_very_pixels_of_the_crop(
    asked: tuple[Box, Size], context: float, working: float
) -> None:
    crop = find_frame(*asked, context, working).size
    for own in (working, 0.0):
        planned = plan(MatchImage(), [crop], own)
        assert planned.canvas == crop
        assert planned.fits[0].scale == 1.0


@settings(max_examples=3000)
@given(asked=_masks(), context=st.floats(1, 4))
def test_a_frame_ends_beyond_the_picture_only_where_the_picture_is_too_small(
    asked: tuple[Box, Size], context: float
) -> None:
    mask, picture = asked
    frame = find_frame(mask, picture, context, 1.0)
    for start, side, most in (
        (frame.left, frame.width, picture.width),
        (frame.top, frame.height, picture.height),
    ):
        assert start + side < most + 1 or start == 0
    short, long = sorted((picture.width, picture.height))
    has_room = mask.width <= 0.9 * picture.width and mask.height <= 0.9 * picture.height
    if has_room and short >= 160 and long <= 4 * short:
        assert frame.width < picture.width + 1e-6
        assert frame.height < picture.height + 1e-6


@settings(max_examples=500)
@given(asked=_masks(), context=st.floats(1, 4), working=st.sampled_from([0.5, 1.0, 4.0]))
def test_a_crop_is_billed_as_the_megapixels_it_was_asked_for(
    asked: tuple[Box, Size], context: float, working: float
) -> None:
    mask, _ = asked
    frame = find_frame(*asked, context, working)
    # Only a mask that fills the crop keeps it at its own pixels although they are more.
    if frame.scale != 1 or min(frame.width - mask.width, frame.height - mask.height) > 5 * CELL:
        assert frame.size.area <= working * 1_000_000


@pytest.mark.parametrize("side", [690, 670])
def test_a_crop_a_little_too_large_shows_a_little_less(side: int) -> None:
    frame = find_frame(Box(900, 900, 900 + side, 900 + side), Size(4000, 3000), 1.5, 1.0)
    assert frame.scale == 1
    assert 930_000 < frame.size.area <= 1_000_000


def test_a_mask_at_the_corner_moves_the_frame_and_does_not_cut_it() -> None:
    middle = find_frame(Box(1000, 1000, 1600, 1600), Size(4000, 3000), 1.5, 1.0)
    corner = find_frame(Box(3400, 2400, 4000, 3000), Size(4000, 3000), 1.5, 1.0)
    assert (corner.size, corner.scale) == (middle.size, middle.scale)
    assert corner.left + corner.width == pytest.approx(4000, abs=1)
    assert corner.top + corner.height == pytest.approx(3000, abs=1)


def test_the_mask_lies_in_the_middle_where_there_is_room() -> None:
    inside = find_frame(Box(1000, 800, 1600, 1400), Size(4000, 3000), 1.5, 1.0).inside(
        Box(1000, 800, 1600, 1400)
    )
    assert inside.left == pytest.approx(150, abs=2)
    assert inside.top == pytest.approx(150, abs=2)


@pytest.mark.parametrize("side", [650, 670, 682, 700, 714])
def test_near_the_working_area_the_picture_keeps_its_own_pixels(side: int) -> None:
    frame = find_frame(Box(900, 900, 900 + side, 900 + side), Size(4000, 3000), 1.5, 1.0)
    assert frame.scale == 1.0


@pytest.mark.parametrize("side", [600, 760])
def test_further_from_it_the_crop_has_the_working_area(side: int) -> None:
    frame = find_frame(Box(900, 900, 900 + side, 900 + side), Size(4000, 3000), 1.5, 1.0)
    assert frame.scale == pytest.approx(1000 / (1.5 * side), rel=0.02)
    assert frame.width == pytest.approx(1.5 * side, rel=0.02)


def test_a_small_mask_is_not_enlarged_more_than_four_times() -> None:
    frame = find_frame(Box(2000, 1500, 2001, 1501), Size(4000, 3000), 1.0, 1.0)
    assert 3.8 < frame.scale <= 4


def test_a_long_mask_gets_a_gentler_crop_where_the_picture_has_room() -> None:
    frame = find_frame(Box(200, 1500, 2600, 1520), Size(4000, 3000), 1.0, 1.0)
    assert frame.size.width / frame.size.height == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(("width", "height"), [(4000, 500), (500, 4000), (4000, 100), (7, 900)])
def test_thin_pictures_keep_within_what_the_edit_takes(width: int, height: int) -> None:
    frame = find_frame(Box(0, 0, width, height), Size(width, height), 1.5, 1.0)
    short, long = sorted((frame.size.width, frame.size.height))
    assert long <= MAX_ASPECT * short
    assert min(frame.width - width, frame.height - height) == pytest.approx(0, abs=0.6 * CELL)


def test_scale_is_one_number_for_both_sides() -> None:
    frame = find_frame(Box(37, 61, 190, 300), Size(333, 517), 1.5, 0.25)
    assert math.isclose(frame.size.width / frame.width, frame.size.height / frame.height)
