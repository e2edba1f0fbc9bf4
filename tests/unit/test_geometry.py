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

RECOMPOSED = "recomposed, no pixel lock: the output has another aspect than its image"

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
    result = plan(Custom(512, 1024), [Size(1024, 512)], 0.5)
    assert not result.locked
    assert result.notices == (RECOMPOSED,)
    assert result.fits[0].grid != result.canvas


def test_an_equal_custom_size_is_locked() -> None:
    assert plan(Custom(1024, 683), [Size(3000, 2000)], 1.0).locked
    assert not plan(Custom(1024, 688), [Size(3000, 2000)], 1.0).locked
    assert not plan(Custom(101, 100), [Size(100, 100)], 1.0).locked


@pytest.mark.parametrize("size", SIZES)
def test_megapixels_gives_whole_cells_and_a_lock(size: tuple[int, int]) -> None:
    result = plan(Megapixels(0.5), [Size(*size)], 0.0)
    assert result.output.width % CELL == result.output.height % CELL == 0
    assert result.output.area == pytest.approx(0.5 * MEGAPIXEL, rel=0.1)
    assert result.locked


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((157, 88), [(448, 256), (992, 560), (1968, 1104)]),
        ((640, 427), [(400, 272), (880, 592), (1840, 1232)]),
        ((1080, 1350), [(288, 352), (640, 800), (1280, 1600)]),
        ((333, 517), [(272, 416), (592, 912), (1136, 1760)]),
        ((4000, 3000), [(384, 288), (832, 624), (1664, 1248)]),
        ((128, 16), [(896, 112), (2048, 256), (4096, 512)]),
    ],
)
def test_a_shared_workflow_gets_the_size_in_megapixels_that_it_always_got(
    size: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    found = [plan(Megapixels(area), [Size(*size)], 1.0).output for area in (0.1, 0.5, 2.0)]
    assert found == [Size(*sides) for sides in expected]


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
    assert plan(MatchImage(), [Size(4000, 3000)], 0.5).notices == (
        "runs at 0.50 of 11.44 megapixels and is scaled up; where a part is edited, "
        "FireRed Crop Region keeps the detail of the rest",
    )


@pytest.mark.parametrize("size", [Size(1024, 1024), Size(512, 512)])
def test_nothing_is_said_where_nothing_is_lost(size: Size) -> None:
    assert plan(MatchImage(), [size], 1.0).notices == ()


@pytest.mark.parametrize(
    ("size", "scale"), [(Size(1152, 1024), 1.0), (Size(1153, 1024), 0.9424), (Size(896, 1024), 1.0)]
)
def test_up_to_an_eighth_from_the_working_area_nothing_is_scaled(size: Size, scale: float) -> None:
    assert plan(MatchImage(), [size], 1.0).fits[0].scale == pytest.approx(scale, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "working", "grid", "scale"),
    [
        (Size(4096, 1024), 4.0, Size(2048, 512), 0.5),
        (Size(300, 100), 0.25, Size(896, 304), 2.956033),
        (Size(100, 300), 0.25, Size(304, 896), 2.956033),
    ],
)
def test_another_reference_has_a_grid_of_its_own_of_a_megapixel_at_most(
    size: Size, working: float, grid: Size, scale: float
) -> None:
    other = plan(MatchImage(), [Size(512, 512), size], working).fits[1]
    assert (other.source, other.grid) == (size, grid)
    assert other.scale == pytest.approx(scale, abs=1e-6)


CHOOSE = "Choose square_hd, square, portrait_4_3, portrait_16_9, landscape_4_3, landscape_16_9."


@pytest.mark.parametrize(
    ("policy", "last", "words"),
    [
        (
            MatchImage(3),
            Size(64, 64),
            "The size follows image 3, but 2 connected. Connect that picture or lower size index.",
        ),
        (
            MatchImage("1"),  # type: ignore[arg-type]
            Size(64, 64),
            "size index is '1'. Choose which image the size follows.",
        ),
        (Preset("huge"), Size(64, 64), f"There is no size preset 'huge'. {CHOOSE}"),
        (
            Preset(7),  # type: ignore[arg-type]
            Size(64, 64),
            f"size preset is 7. {CHOOSE}",
        ),
        (
            MatchImage(),
            Size(1000, 10),
            "Image 2 is 1000x10 pixels. Both sides must be 16 or more.",
        ),
        (
            MatchImage(),
            Size(100, 801),
            "Image 2 is 100x801 pixels, longer than 8:1. Crop it or pad it first.",
        ),
        (
            Custom(8192, 64),
            Size(64, 64),
            "The output is 8192x64 pixels, longer than 8:1. Crop it or pad it first.",
        ),
        (Custom(20, 64), Size(64, 64), "A custom side is 20. Choose a value from 64 to 8192."),
        (Custom(64, 8193), Size(64, 64), "A custom side is 8193. Choose a value from 64 to 8192."),
        (Megapixels(-1.0), Size(64, 64), "megapixels is -1.0. Choose a value from 0.1 to 16.0."),
        (
            Megapixels(float("nan")),
            Size(64, 64),
            "megapixels is nan. Choose a value from 0.1 to 16.0.",
        ),
        (
            Custom(8192, 8192),
            Size(64, 64),
            "The edit would run at 64.0 megapixels. "
            "Set working_megapixels to 16 or less; 1.0 suits the model.",
        ),
    ],
)
def test_impossible_sizes_are_refused_in_words(policy: SizePolicy, last: Size, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        plan(policy, [Size(512, 512), last], 0.0)
    assert str(refusal.value) == words


@pytest.mark.parametrize(
    ("policy", "size"),
    [
        (MatchImage(), Size(16, 128)),
        (Custom(4096, 4096), Size(512, 512)),
        (Custom(8192, 1024), Size(512, 512)),
        (Custom(64, 64), Size(512, 512)),
    ],
)
def test_the_largest_longest_and_smallest_are_taken(policy: SizePolicy, size: Size) -> None:
    found = plan(policy, [size], 0.0)
    assert found.canvas == found.output
    assert not found.notices or found.notices == (RECOMPOSED,)


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


@pytest.mark.parametrize(("size", "other"), [((101, 100), (100, 100)), ((300, 201), (200, 133))])
def test_a_whole_pixel_off_is_another_aspect(size: tuple[int, int], other: tuple[int, int]) -> None:
    assert not Size(*size).same_aspect(Size(*other))
