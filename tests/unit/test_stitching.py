"""References, masks and a prompt become three composites and the prompt for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from firered_edit.pipeline.boxes import Box
from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.geometry import MEGAPIXEL, Size
from firered_edit.pipeline.images import Pixels, Reference
from firered_edit.pipeline.prompts import find_names
from firered_edit.pipeline.stitching import Stitched, stitch
from firered_edit.pipeline.stitching.regions import region_of
from support.kinds import MakeReference

COUNTS = range(4, 13)


def _colour(number: int) -> tuple[int, int, int]:
    return (20 * number, 255 - 20 * number, 7 * number)


def _plain(number: int, width: int = 90, height: int = 60) -> Reference:
    """A picture in the one colour that belongs to its number."""
    return Reference(np.full((height, width, 3), _colour(number), np.uint8))


def _plains(count: int) -> list[Reference]:
    """Of every shape and size."""
    shapes = [(90, 60), (60, 90), (240, 240), (50, 70), (400, 300), (33, 44), (1600, 900)]
    return [_plain(number, *shapes[number % len(shapes)]) for number in range(1, count + 1)]


def _colours(pixels: Pixels) -> set[tuple[int, ...]]:
    packed = np.unique(pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32))
    return {(colour % 256, colour // 256 % 256, colour // 65536) for colour in packed.tolist()}


def _part(pixels: Pixels, box: Box) -> Pixels:
    return pixels[box.top : box.bottom, box.left : box.right]


def _stitched(
    references: Sequence[Reference],
    prompt: str = "",
    masks: dict[int, torch.Tensor] | None = None,
    background: bool = True,
) -> Stitched:
    return stitch(references, prompt, masks or {}, background)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_composites_hold_the_pictures_and_nothing_else(count: int, background: bool) -> None:
    stitched = _stitched(_plains(count), background=background)
    assert len(stitched.pixels) == 3
    for composite, pixels in zip(stitched.composites, stitched.pixels, strict=True):
        assert Reference(pixels).size == composite.size
        assert _colours(pixels) == {_colour(tile.number) for tile in composite.tiles}
        assert all(
            (_part(pixels, tile.box) == _colour(tile.number)).all() for tile in composite.tiles
        )


def test_the_background_stays_as_it_is(reference: MakeReference) -> None:
    references = [reference(333, 517), *_plains(3)]
    stitched = _stitched(references)
    assert np.array_equal(stitched.pixels[0], references[0].pixels)
    assert stitched.composites[0].size == Size(333, 517)


def test_without_a_background_the_first_picture_is_put_together_too(
    reference: MakeReference,
) -> None:
    references = [reference(333, 517), *_plains(5)]
    first = _stitched(references, background=False).composites[0]
    assert first.tiles[0].number == 1
    assert first.size.area == pytest.approx(MEGAPIXEL, rel=0.09)


def test_the_same_pictures_give_the_same_composites(reference: MakeReference) -> None:
    references = [reference(100 + 13 * number, 120) for number in range(6)]
    first, second = (_stitched(references, "image 5").pixels for _ in range(2))
    assert all(map(np.array_equal, first, second))


def test_a_picture_is_scaled_not_cropped() -> None:
    """One with a frame along its edges has it along the edges of its tile."""
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[20:-20, 20:-20] = 200
    stitched = _stitched([_plain(1), Reference(pixels), _plain(3), _plain(4)])
    tile = stitched.composites[1].tiles[0]
    shown = _part(stitched.pixels[1], tile.box)
    width = tile.box.size.width * 20 / 300
    for side in (shown, shown[::-1], shown.swapaxes(0, 1), shown.swapaxes(0, 1)[::-1]):
        frame = int(np.argmax(side[:, side.shape[1] // 2, 0] > 100))
        assert frame == pytest.approx(width, abs=1)


def _mask(width: int, height: int, box: Box, value: float = 1.0) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, box.top : box.bottom, box.left : box.right] = value
    return mask


PICTURE = Size(800, 600)

REGIONS = [
    # What is marked, and what is taken of a picture of 800x600.
    (Box(200, 100, 400, 300), Box(187, 87, 413, 313)),
    (Box(0, 0, 160, 320), Box(0, 0, 200, 360)),
    (Box(700, 500, 800, 600), Box(686, 486, 800, 600)),
    (Box(100, 300, 740, 310), Box(60, 215, 780, 395)),
    (Box(400, 300, 401, 301), Box(392, 292, 408, 308)),
    (Box(0, 0, 800, 600), Box(0, 0, 800, 600)),
]


@pytest.mark.parametrize(("marked", "taken"), REGIONS)
def test_a_region_is_what_is_marked_with_a_margin(marked: Box, taken: Box) -> None:
    assert region_of(2, _mask(800, 600, marked), PICTURE) == taken


def test_a_faint_brush_marks_and_a_soft_edge_does_not() -> None:
    mask = _mask(800, 600, Box(150, 50, 450, 350), 0.1)
    mask[:, 100:300, 200:400] = 0.3
    assert region_of(2, mask, PICTURE) == Box(187, 87, 413, 313)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2])
def test_a_mask_of_another_size_is_scaled(factor: float) -> None:
    width, height = (round(side * factor) for side in (800, 600))
    marked = Box(*(round(edge * factor) for edge in (200, 100, 400, 300)))
    assert region_of(2, _mask(width, height, marked), PICTURE) == Box(187, 87, 413, 313)


@pytest.mark.parametrize(
    ("mask", "picture"),
    [((64, 100), (333, 517)), ((65, 100), (333, 517)), ((4000, 2667), (100, 67))],
)
def test_a_mask_whose_size_is_a_rounding_off_has_the_same_aspect(
    mask: tuple[int, int], picture: tuple[int, int]
) -> None:
    width, height = mask
    assert region_of(2, torch.ones(1, height, width), Size(*picture)) == Box(0, 0, *picture)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(1, 64, 64), "mask_2 is 64x64 pixels, image 2 is 800x600: another aspect"),
        (torch.ones(1, 600, 790), "another aspect"),
        (torch.ones(3, 600, 800), "mask_2 holds 3 masks"),
        (torch.ones(800), "mask_2 is not a mask"),
        (torch.ones(1, 0, 800), "mask_2 is not a mask"),
        (torch.full((1, 600, 800), math.nan), "mask_2 holds NaN"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        region_of(2, mask, PICTURE)


@pytest.mark.parametrize("background", [True, False])
def test_only_the_marked_part_of_a_picture_is_put_together(background: bool) -> None:
    pixels = np.full((300, 400, 3), (255, 0, 0), np.uint8)
    pixels[100:200, 250:350] = (0, 0, 255)
    references = [_plain(1), Reference(pixels), _plain(3), _plain(4)]
    masks = {2: _mask(400, 300, Box(270, 120, 330, 180))}
    stitched = _stitched(references, masks=masks, background=background)
    shown = set().union(*map(_colours, stitched.pixels))
    assert shown == {_colour(1), (0, 0, 255), _colour(3), _colour(4)}
    assert not stitched.notices


def test_an_empty_mask_means_the_whole_picture_and_is_told() -> None:
    plain = _stitched(_plains(5))
    empty = _stitched(_plains(5), masks={3: torch.zeros(1, 64, 64)})
    assert all(map(np.array_equal, empty.pixels, plain.pixels))
    assert empty.notices == ("mask_3 is empty: image 3 is used whole",)


def test_without_a_background_the_first_picture_is_masked_too() -> None:
    pixels = np.full((300, 400, 3), (255, 0, 0), np.uint8)
    pixels[100:200, 250:350] = (0, 0, 255)
    masks = {1: _mask(400, 300, Box(270, 120, 330, 180))}
    stitched = _stitched([Reference(pixels), *_plains(4)], masks=masks, background=False)
    shown = set().union(*map(_colours, stitched.pixels))
    assert shown == {(0, 0, 255), *map(_colour, range(1, 5))}
    assert not stitched.notices


def test_the_mask_of_the_background_has_no_effect_and_is_told() -> None:
    masks = {1: _mask(60, 90, Box(0, 0, 9, 9))}
    stitched = _stitched(_plains(4), masks=masks)
    assert stitched.composites[0].size == Size(60, 90)
    assert stitched.notices == ("mask_1 has no effect: image 1 is the background",)


def test_transparency_is_told() -> None:
    references = [*_plains(4), Reference(_plain(5).pixels, had_alpha=True)]
    assert _stitched(references).notices == ("image 5 has transparency and was laid over white",)


def test_a_mask_rescues_a_picture_of_extreme_aspect() -> None:
    references = [*_plains(4), _plain(5, 1000, 50)]
    with pytest.raises(InputError, match="Image 5 is 1000x50 pixels, longer than 8:1"):
        _stitched(references)
    stitched = _stitched(references, masks={5: _mask(1000, 50, Box(100, 0, 200, 50))})
    assert _colour(5) in _colours(stitched.pixels[2])


@pytest.mark.parametrize(
    ("references", "masks", "prompt", "words"),
    [
        (_plains(3), {}, "", "3 pictures are connected. Connect up to 3 directly to the edit"),
        ([_plain(1)] * 13, {}, "", "13 pictures are connected. Connect at most 12"),
        ([*_plains(4), _plain(5, 900, 15)], {}, "", "Image 5 is 900x15 pixels.*16 or more"),
        (_plains(4), {5: torch.zeros(1, 64, 64)}, "", "mask_5 has no picture: 4 are connected"),
        (_plains(4), {}, "the hat of @image5", "names @image5"),
    ],
)
def test_what_cannot_be_put_together_is_refused_in_words(
    references: list[Reference], masks: dict[int, torch.Tensor], prompt: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _stitched(references, prompt, masks)


# Picture 1 is alone, 2 and 3 stand side by side, 4, 5 and 6 lie one below the other.
SIX = [_plain(1), _plain(2, 60, 90), _plain(3, 60, 90), _plain(4), _plain(5), _plain(6)]

PROMPTS = [
    ("", ""),
    ("make it night", "make it night"),
    ("the person of image 1", "the person of image 1"),
    ("the hat of image 3", "the hat of image 2 (right part)"),
    ("@image2 beside @image4", "@image2 (left part) beside @image3 (top part)"),
    ("image 4K, image 9", "image 4K, image 9"),
    ("给图1的人戴上图5的帽子", "给图1的人戴上图3（中间部分）的帽子"),
    ("穿上@图3和第六张图的衣服", "穿上@图2（右侧部分）和图3（下方部分）的衣服"),
]


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS)
def test_a_prompt_names_composite_and_place_in_its_own_language(prompt: str, expected: str) -> None:
    assert _stitched(SIX, prompt).prompt == expected


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["image {}", "图{}", "@image{}"])
def test_every_name_leads_to_the_composite_that_holds_the_picture(
    count: int, background: bool, name: str
) -> None:
    prompt = "; ".join(name.format(number) for number in range(1, count + 1))
    stitched = _stitched(_plains(count), prompt, background=background)
    holders = {
        tile.number: (number,)
        for number, composite in enumerate(stitched.composites, 1)
        for tile in composite.tiles
    }
    assert [found.numbers for found in find_names(stitched.prompt, 3)] == [
        holders[number] for number in range(1, count + 1)
    ]
    assert len(set(stitched.prompt.split("; "))) == count


def test_a_plain_name_of_no_picture_is_told() -> None:
    (notice,) = _stitched(_plains(4), "the hat of image 9").notices
    assert "image 9" in notice


def test_the_summary_says_where_each_picture_lies() -> None:
    lines = _stitched(SIX, masks={4: torch.zeros(1, 64, 64)}).summary().split("\n")
    assert lines[0] == "composite 1 90x60: image 1 alone"
    assert lines[1].endswith(": image 2 left part, image 3 right part")
    assert lines[2].endswith(": image 4 top part, image 5 middle part, image 6 bottom part")
    assert lines[3] == "mask_4 is empty: image 4 is used whole"
