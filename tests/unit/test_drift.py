"""How exactly a known drift is found, and when none is made up."""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np
import pytest
from PIL import Image
from skimage import color, data

from firered_edit.pipeline.drift import Drift, align, measure
from firered_edit.pipeline.drift.colour import mean_change, mean_delta_e
from firered_edit.pipeline.errors import InputError
from support.photos import photograph
from support.warps import Picture, warped

PHOTOS = ["astronaut", "coffee", "chelsea"]

WARPS = [
    ((0.01, -0.02), 1.0),
    ((0.25, -0.4), 1.0),
    ((-0.5, 3.75), 1.0),
    ((0.0, 0.0), 1.0113),
    ((-1.3, 0.8), 0.997),
    ((40.0, -40.0), 1.0),
    ((-38.6, 21.35), 0.95),
    ((17.2, 39.9), 1.05),
]


@cache
def _photo(name: str) -> Picture:
    """Part of a photograph; tests share it, and nothing may write to it."""
    return _decoded(getattr(data, name)()[:288, 80:432])


def _decoded(pixels: np.ndarray) -> Picture:
    return pixels.astype(np.float32) / 255


def _pixels(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture * 255).astype(np.uint8))


def _assert_found(
    drift: Drift,
    shift: tuple[float, float],
    scale: float = 1.0,
    pixels: float = 0.02,
    zoom: float = 1e-4,
) -> None:
    assert not drift.unmeasured
    assert drift.shift == pytest.approx(shift, abs=pixels)
    assert drift.scale == pytest.approx(scale, abs=zoom)


def _replaced(picture: Picture, share: float) -> tuple[Picture, np.ndarray]:
    """``picture`` with another one in its middle, and the mask of that."""
    height, width = picture.shape[:2]
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    top, left = (height - tall) // 3, (width - wide) // 2
    other = _pixels(_decoded(data.rocket()))
    mask = np.zeros((height, width), np.float32)
    mask[top : top + tall, left : left + wide] = 1
    edited = picture.copy()
    edited[mask > 0] = _decoded(np.asarray(other.resize((wide, tall)))).reshape(-1, 3)
    return edited, mask


@pytest.mark.parametrize("name", PHOTOS)
def test_a_picture_against_itself_has_not_moved_at_all(name: str) -> None:
    drift = measure(_photo(name), _photo(name).copy())
    assert (drift.shift, drift.scale, drift.unmeasured) == ((0.0, 0.0), 1.0, "")
    assert (drift.colour, drift.delta_e) == ((0.0, 0.0, 0.0), 0.0)
    assert (drift.agreement, drift.area) == (1.0, 1.0)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("shift", "scale"), WARPS)
def test_a_known_shift_and_scale_are_found(
    name: str, shift: tuple[float, float], scale: float
) -> None:
    drift = measure(_photo(name), warped(_photo(name), shift, scale))
    _assert_found(drift, shift, scale, pixels=0.005, zoom=3e-5)
    assert drift.agreement > 0.98


@pytest.mark.parametrize(("side", "pixels"), [(16, 0.1), (32, 0.05), (64, 0.02), (128, 0.01)])
def test_small_pictures_are_measured_too(side: int, pixels: float) -> None:
    small = _photo("chelsea")[90 : 90 + side, 70 : 70 + side]
    assert measure(small, small).shift == (0.0, 0.0)
    _assert_found(measure(small, warped(small, (1.2, -0.7))), (1.2, -0.7), 1.0, pixels, 0.01)


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 512), (1200, 1024)])
def test_large_and_long_pictures_are_measured_in_their_own_pixels(size: tuple[int, int]) -> None:
    height, width = size
    whole = _decoded(photograph(width + 37, height + 21))
    drift = measure(whole[21:, 37:], whole[:height, :width])
    _assert_found(drift, (37, 21), pixels=0.01, zoom=1e-5)
    assert drift.delta_e < 2


@pytest.mark.parametrize("name", PHOTOS)
def test_a_known_change_of_colour_is_found_and_moves_nothing(name: str) -> None:
    gain, offset = np.float32([0.9, 1.05, 0.8]), np.float32([0.04, -0.02, 0.1])
    before = 0.1 + 0.8 * _photo(name)
    after = before * gain + offset
    drift = measure(before, after)
    _assert_found(drift, (0.0, 0.0), pixels=0.01, zoom=5e-5)
    expected = 255 * (after - before).mean(axis=(0, 1), dtype=np.float64)
    assert drift.colour == pytest.approx(tuple(expected), abs=0.01)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("shift", "scale"), [WARPS[4], WARPS[6]])
def test_a_change_of_colour_is_found_where_the_picture_has_moved_to(
    name: str, shift: tuple[float, float], scale: float
) -> None:
    before = 0.1 + 0.8 * _photo(name)
    after = warped(before, shift, scale) + np.float32([0.04, -0.02, 0.1])
    drift = measure(before, after)
    _assert_found(drift, shift, scale)
    assert drift.colour == pytest.approx((10.2, -5.1, 25.5), abs=0.2)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("shift", "scale"), [WARPS[1], WARPS[6]])
@pytest.mark.parametrize("share", [0.25, 0.4])
def test_what_was_edited_is_outvoted(
    name: str, shift: tuple[float, float], scale: float, share: float
) -> None:
    edited, _ = _replaced(warped(_photo(name), shift, scale), share)
    drift = measure(_photo(name), edited)
    _assert_found(drift, shift, scale, pixels=0.05, zoom=3e-4)
    assert drift.agreement < 0.8


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("shift", "scale"), [WARPS[1], WARPS[6]])
@pytest.mark.parametrize("moves", [True, False])
def test_a_mask_leaves_out_what_was_meant_to_change(
    name: str, shift: tuple[float, float], scale: float, moves: bool
) -> None:
    edited, mask = _replaced(warped(_photo(name), shift, scale), 0.25)
    if moves:
        edited, mask = _replaced(_photo(name), 0.25)
        edited = warped(edited, shift, scale)
    drift = measure(_photo(name), edited, mask)
    _assert_found(drift, shift, scale, pixels=0.005, zoom=5e-5)
    assert drift.colour == pytest.approx((0, 0, 0), abs=0.3)
    assert drift.area < 0.76
    assert drift.agreement > 0.95


def test_the_colour_of_what_was_meant_to_change_does_not_count() -> None:
    edited, mask = _replaced(_photo("chelsea"), 0.25)
    assert measure(_photo("chelsea"), edited, mask).colour == (0, 0, 0)
    assert max(map(abs, measure(_photo("chelsea"), edited).colour)) > 3


def _jpeg(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    _pixels(picture).save(buffer, "JPEG", quality=90)
    return _decoded(np.asarray(Image.open(buffer)))


def _blurred(picture: Picture) -> Picture:
    """As if the edit had run at half the resolution."""
    whole = _pixels(picture)
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS)
    return _decoded(np.asarray(half.resize(whole.size, Image.Resampling.LANCZOS)))


def _noisy(picture: Picture) -> Picture:
    noise = np.random.default_rng(4).normal(0, 5 / 255, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _relit(picture: Picture) -> Picture:
    light = np.linspace(0.4, 1.2, picture.shape[1], dtype=np.float32)
    return np.clip(picture * light[:, None], 0, 1)


def _at_night(picture: Picture) -> Picture:
    return picture**2 * np.float32([0.3, 0.35, 0.5])


@pytest.mark.parametrize(
    ("change", "pixels", "zoom"),
    [
        (_jpeg, 0.005, 2e-5),
        (_blurred, 0.005, 5e-5),
        (_noisy, 0.005, 1e-4),
        (_relit, 0.02, 1e-4),
        (_at_night, 0.05, 2e-4),
    ],
)
@pytest.mark.parametrize("name", PHOTOS[:2])
@pytest.mark.parametrize(("shift", "scale"), [((0.0, 0.0), 1.0), WARPS[4]])
def test_what_an_edit_does_beside_moves_nothing(
    change: object, pixels: float, zoom: float, name: str, shift: tuple[float, float], scale: float
) -> None:
    assert callable(change)
    edited = change(warped(_photo(name), shift, scale))
    _assert_found(measure(_photo(name), edited), shift, scale, pixels, zoom)


def _gray(plane: np.ndarray) -> Picture:
    return np.repeat(plane[..., None], 3, axis=2).astype(np.float32)


ROWS, COLUMNS = np.indices((240, 320))
NOISE = np.random.default_rng(1).normal(0, 0.02, (2, 240, 320, 3)).astype(np.float32)
FLAT = np.full((240, 320, 3), 0.5, np.float32)
RAMP = _gray(COLUMNS / 500)
STRIPES = _gray(0.2 + 0.6 * (COLUMNS // 16 % 2))
CHECKS = _gray(0.2 + 0.6 * ((ROWS // 16 + COLUMNS // 16) % 2))
WAVES = _gray(0.5 + 0.2 * np.sin(COLUMNS * math.tau / 11) + 0.2 * np.sin(ROWS * math.tau / 7))


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (FLAT, FLAT, "too little texture"),
        (FLAT, FLAT + 0.1, "too little texture"),
        (RAMP, np.roll(RAMP, 3, 1), "too little texture"),
        (FLAT + NOISE[0], FLAT + NOISE[1], "too little"),
        (_photo("coffee"), _photo("astronaut"), "too little in common"),
        (_photo("coffee"), _photo("coffee")[:, ::-1], "too little in common"),
        (STRIPES, np.roll(STRIPES, 5, 1), "repeats itself"),
        (STRIPES + NOISE[0], np.roll(STRIPES, 5, 1) + NOISE[1], "repeats itself"),
        (CHECKS, np.roll(CHECKS, (2, 3), (0, 1)), "repeats itself"),
        (WAVES, np.roll(WAVES, 2, 1), "repeats itself"),
        (_gray(ROWS > 120), _gray(ROWS > 123), "runs in one direction"),
    ],
)
def test_no_shift_is_made_up(before: Picture, after: Picture, why: str) -> None:
    drift = measure(before, np.ascontiguousarray(after))
    assert why in drift.unmeasured
    assert math.isnan(drift.scale)
    assert all(map(math.isnan, drift.shift))
    assert drift.agreement == 0
    change = 255 * (after - before).mean(axis=(0, 1), dtype=np.float64)
    assert drift.colour == pytest.approx(tuple(change), abs=0.01)


@pytest.mark.parametrize("picture", [STRIPES, CHECKS, FLAT + NOISE[0]])
def test_what_repeats_itself_and_has_not_changed_has_not_moved(picture: Picture) -> None:
    assert measure(picture, picture.copy()).shift == (0.0, 0.0)


@pytest.mark.parametrize("name", ["brick", "page"])
def test_a_texture_that_only_nearly_repeats_itself_is_measured(name: str) -> None:
    texture = _gray(getattr(data, name)()[:300, :384] / 255)
    _assert_found(measure(texture, warped(texture, (12.5, -13.25), 1.004)), (12.5, -13.25), 1.004)


def test_a_picture_too_small_to_hold_anything_is_an_error() -> None:
    with pytest.raises(InputError, match="before is 40x15 pixels"):
        measure(FLAT[:15, :40], FLAT[:15, :40])


@pytest.mark.parametrize("thickness", [0, 1])
def test_a_mask_that_leaves_nothing_is_an_error(thickness: int) -> None:
    mask = np.ones((1500, 2000), np.float32)
    mask[:, :thickness] = 0
    large = np.zeros((1500, 2000, 3), np.float32)
    with pytest.raises(InputError, match="mask covers the whole picture"):
        measure(large, large, mask)


def test_a_mask_that_leaves_a_few_pixels_leaves_only_their_colour() -> None:
    mask = np.ones(_photo("coffee").shape[:2], np.float32)
    mask[:3, :3] = 0
    drift = measure(_photo("coffee"), _photo("coffee") + 0.1, mask)
    assert "too little texture" in drift.unmeasured
    assert drift.colour == pytest.approx((25.5, 25.5, 25.5), abs=0.01)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("shift", "scale"), WARPS[3::2])
def test_an_aligned_picture_has_not_moved(
    name: str, shift: tuple[float, float], scale: float
) -> None:
    edited = warped(_photo(name), shift, scale)
    aligned = align(edited, measure(_photo(name), edited))
    _assert_found(measure(_photo(name), aligned), (0.0, 0.0))
    inner = (slice(60, -60), slice(60, -60))
    assert np.abs(aligned - _photo(name))[inner].mean() * 255 < 2.5


def test_alignment_repeats_edges_and_leaves_colours_alone() -> None:
    edited = 0.5 * np.roll(_photo("astronaut"), (9, -20), (0, 1)) + 0.25
    aligned = align(edited, measure(_photo("astronaut"), edited))
    expected = 0.5 * _photo("astronaut") + 0.25
    assert np.abs(aligned - expected)[:-9, 20:].max() < 1e-3
    assert np.abs(aligned[-8:, 20:] - aligned[-10, 20:]).max() < 1e-3
    assert aligned.min() >= 0.25 - 1e-3


@pytest.mark.parametrize("after", [_photo("coffee") * 0.9, FLAT])
def test_what_has_not_moved_or_not_measurably_is_not_resampled(after: Picture) -> None:
    before = _photo("coffee") if after.shape == _photo("coffee").shape else FLAT + NOISE[0]
    assert align(after, measure(before, after)) is after


def test_colours_are_compared_as_the_cie_does() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.random((2, 3, 5000), dtype=np.float32)
    lab = [color.rgb2lab(each.T) for each in (before, after)]
    expected = float(color.deltaE_cie76(*lab).mean())
    assert mean_delta_e(before, after) == pytest.approx(expected, abs=0.01)
    assert mean_delta_e(np.zeros((3, 1)), np.ones((3, 1))) == pytest.approx(100, abs=0.01)
    assert mean_change(before, before + np.float32(1 / 255)) == pytest.approx((1, 1, 1), abs=1e-3)
