"""Sizes, canvases and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from firered_edit.pipeline.canvas import place, restore
from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.geometry import (
    CELL,
    MEGAPIXEL,
    PRESETS,
    Custom,
    MatchImage,
    Megapixels,
    Preset,
    Size,
    SizePolicy,
    plan,
)
from firered_edit.pipeline.images import to_tensor
from support.kinds import MakePhoto

SIZES = [(1024, 1024), (1080, 1350), (4000, 3000), (333, 517), (64, 400), (1920, 1080)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("working", [0.0, 0.25, 1.0])
def test_match_image_is_locked_at_every_size(size: tuple[int, int], working: float) -> None:
    result = plan(MatchImage(), [Size(*size)], working)
    assert result.output == Size(*size)
    assert result.locked
    assert result.fits[0].grid == result.canvas
    assert result.canvas.width % CELL == result.canvas.height % CELL == 0
    slack = (result.canvas.width - result.frame[0], result.canvas.height - result.frame[1])
    assert all(-1e-6 <= pixels < CELL for pixels in slack)


@pytest.mark.parametrize("size", SIZES)
def test_the_canvas_has_the_working_area(size: tuple[int, int]) -> None:
    result = plan(MatchImage(), [Size(*size)], 1.0)
    assert result.frame[0] * result.frame[1] == pytest.approx(MEGAPIXEL)


def test_match_image_follows_the_named_reference() -> None:
    result = plan(MatchImage(2), [Size(640, 480), Size(300, 500)], 0.5)
    assert result.output == Size(300, 500)
    assert result.fits[1].grid == result.canvas
    assert result.fits[0].grid != result.canvas


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_own_size(name: str) -> None:
    result = plan(Preset(name), [Size(800, 600)], 0.0)
    assert (result.output.width, result.output.height) == PRESETS[name]
    assert result.locked == (name == "landscape_4_3")


def test_another_aspect_is_recomposed_and_says_so() -> None:
    result = plan(Custom(512, 1024), [Size(1024, 512)], 0.25)
    assert not result.locked
    assert any("recomposed" in notice for notice in result.notices)
    assert result.fits[0].grid != result.canvas


def test_an_equal_custom_size_is_locked() -> None:
    assert plan(Custom(1024, 683), [Size(3000, 2000)], 1.0).locked
    assert not plan(Custom(1024, 688), [Size(3000, 2000)], 1.0).locked


@pytest.mark.parametrize("size", SIZES)
def test_megapixels_gives_whole_cells_and_a_lock(size: tuple[int, int]) -> None:
    result = plan(Megapixels(0.5), [Size(*size)], 0.0)
    assert result.output.width % CELL == result.output.height % CELL == 0
    assert result.output.area == pytest.approx(0.5 * MEGAPIXEL, rel=0.1)
    assert result.locked


@pytest.mark.parametrize("size", [(157, 88), (640, 427), (1080, 1350), (517, 333)])
@pytest.mark.parametrize("megapixels", [0.1, 0.25, 1.0])
def test_megapixels_adds_a_strip_of_less_than_half_a_cell(
    size: tuple[int, int], megapixels: float
) -> None:
    result = plan(Megapixels(megapixels), [Size(*size)], 1.0)
    scale = result.output.width / result.frame[0]
    shown = [side * result.fits[0].scale * scale for side in size]
    strips = np.subtract((result.output.width, result.output.height), shown)
    assert (strips < CELL / 2).all()


def test_scaling_up_is_said() -> None:
    notices = plan(MatchImage(), [Size(4000, 3000)], 1.0).notices
    assert any("scaled up" in notice for notice in notices)


@pytest.mark.parametrize(
    ("policy", "sizes", "working", "words"),
    [
        (MatchImage(3), [Size(64, 64)], 1.0, "image 3"),
        (Preset("huge"), [Size(64, 64)], 1.0, "preset"),
        (MatchImage(), [Size(1000, 10)], 1.0, "16 or more"),
        (MatchImage(), [Size(2000, 100)], 1.0, "8:1"),
        (Custom(8192, 64), [Size(512, 512)], 1.0, "8:1"),
        (Custom(20, 20), [Size(512, 512)], 1.0, "from 64"),
        (Megapixels(-1.0), [Size(512, 512)], 1.0, "from 0.1"),
        (Megapixels(float("nan")), [Size(512, 512)], 1.0, "from 0.1"),
        (Custom(8192, 8192), [Size(512, 512)], 0.0, "working_megapixels"),
    ],
)
def test_impossible_sizes_are_refused_in_words(
    policy: SizePolicy, sizes: list[Size], working: float, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        plan(policy, sizes, working)


@pytest.mark.parametrize("size", [(64, 64), (100, 75), (333, 517)])
def test_at_scale_one_the_way_back_is_bit_identical(
    size: tuple[int, int], photo: MakePhoto
) -> None:
    pixels = photo(*size)
    result = plan(MatchImage(), [Size(*size)], 0.0)
    canvas = to_tensor(place(pixels, result.fits[0]))
    assert torch.equal(restore(canvas, result), to_tensor(pixels))


@pytest.mark.parametrize("size", [(333, 517), (1080, 1350), (96, 64)])
@pytest.mark.parametrize("working", [0.1, 0.5])
def test_the_way_back_neither_shifts_nor_zooms(size: tuple[int, int], working: float) -> None:
    """On ramps from edge to edge a shift shows as an offset, a zoom as another slope."""
    width, height = size
    across = np.linspace(40, 215, width)[None, :].repeat(height, axis=0)
    down = np.linspace(40, 215, height)[:, None].repeat(width, axis=1)
    pixels = np.rint(np.stack([across, down, across], axis=-1)).astype(np.uint8)
    result = plan(MatchImage(), [Size(*size)], working)
    back = restore(to_tensor(place(pixels, result.fits[0])), result).numpy() * 255
    assert back.shape == (height, width, 3)
    for channel, axis, length in ((0, 0, width), (1, 1, height)):
        # The kernel reaches beyond the picture near its edges; inside, the ramp must be the same.
        inner = slice(length // 8, -length // 8)
        position = np.arange(length)[inner]
        profile = back[..., channel].mean(axis=axis)[inner]
        slope, offset = np.polyfit(position, profile, 1)
        true_slope = 175 / (length - 1)
        assert slope == pytest.approx(true_slope, rel=2e-3)
        assert (offset - 40) / true_slope == pytest.approx(0, abs=0.2)


def test_a_canvas_refitted_by_the_server_still_gives_the_asked_size(photo: MakePhoto) -> None:
    result = plan(MatchImage(), [Size(333, 517)], 0.0)
    refitted = to_tensor(photo(352, 544))
    assert tuple(restore(refitted, result).shape) == (517, 333, 3)


@pytest.mark.parametrize(
    ("size", "other", "same"),
    [
        ((1152, 864), (1152, 864), True),
        ((2304, 1728), (1152, 864), True),
        ((576, 432), (1152, 864), True),
        ((333, 517), (1333, 2069), True),
        ((64, 64), (4000, 3000), False),
        ((1152, 880), (1152, 864), False),
        ((736, 704), (1040, 1008), False),
    ],
)
def test_an_aspect_is_the_same_within_a_pixel_of_the_coarser(
    size: tuple[int, int], other: tuple[int, int], same: bool
) -> None:
    assert Size(*size).same_aspect(Size(*other)) == same
    assert Size(*other).same_aspect(Size(*size)) == same
