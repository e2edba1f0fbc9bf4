"""A crop that is cut, edited and pasted back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.images import to_tensor, to_uint8
from firered_edit.pipeline.region import Region, crop_region, paste_region
from support.blobs import blob, disc
from support.photos import photograph


@cache
def _photo(width: int, height: int) -> torch.Tensor:
    """A photograph; tests share it, and nothing may write to it."""
    return to_tensor(photograph(width, height))


def _in_bytes(picture: torch.Tensor) -> torch.Tensor:
    """``picture`` as it is after a save and a load."""
    return to_tensor(to_uint8("picture", picture))


def _noise(region: Region) -> torch.Tensor:
    return torch.rand(region.crop.shape, generator=torch.Generator().manual_seed(5))


def _error(found: torch.Tensor, source: torch.Tensor) -> float:
    """The greatest difference, in steps of 8 bits."""
    return float((found - source).abs().max()) * 255


def _psnr(found: torch.Tensor, source: torch.Tensor) -> float:
    return float(-10 * ((found - source) ** 2).mean().log10())


def _assert_kept_outside(found: torch.Tensor, region: Region) -> None:
    outside = (region.mask.laid_on(region.size) == 0)[..., None]
    assert not ((found != region.source) & outside).any()
    kept, source = (to_uint8("picture", picture) for picture in (found, region.source))
    assert not ((kept != source) & outside.numpy()).any()


def _slanted(width: int, height: int) -> torch.Tensor:
    mask = torch.zeros(height, width)
    steps = torch.arange(max(width, height))
    mask[steps * (height - 1) // (len(steps) - 1), steps * (width - 1) // (len(steps) - 1)] = 1
    return mask


def _at(x: int, y: int, width: int, height: int) -> Callable[[int, int], torch.Tensor]:
    """A rectangle; negative x and y count from the right and the bottom."""

    def make(picture_width: int, picture_height: int) -> torch.Tensor:
        mask = torch.zeros(picture_height, picture_width)
        left, top = x % picture_width, y % picture_height
        mask[top : top + height, left : left + width] = 1
        return mask

    return make


MASKS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "blob": lambda width, height: blob(width, height, 3),
    "whole": lambda width, height: torch.ones(height, width),
    "one pixel": _at(70, 33, 1, 1),
    "first pixel": _at(0, 0, 1, 1),
    "last pixel": _at(-1, -1, 1, 1),
    "left edge": _at(0, 20, 12, 40),
    "right edge": _at(-9, 10, 9, 15),
    "bottom edge": _at(20, -5, 60, 5),
    "thin diagonal": _slanted,
    "soft": lambda width, height: blob(width, height, 4) * 0.4,
}

SIZES = [(333, 517), (96, 64), (640, 480), (800, 100), (101, 803), (17, 90)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("spreading", [{"grow": 0, "feather": 0}, {"grow": 9, "feather": 16}])
def test_an_edit_changes_nothing_outside_its_mask_and_an_identity_nothing_at_all(
    size: tuple[int, int], kind: str, spreading: dict[str, int]
) -> None:
    source = _photo(*size)
    region = crop_region(source[None], MASKS[kind](*size), working_megapixels=0.4, **spreading)
    edited = paste_region(_noise(region)[None], region).images[0]
    _assert_kept_outside(edited, region)
    same = paste_region(_in_bytes(region.crop)[None], region).images[0]
    _assert_kept_outside(same, region)
    assert _error(same, source) <= 1.0


def test_what_comes_back_unedited_is_the_very_picture() -> None:
    source = _photo(333, 517)
    region = crop_region(source, MASKS["soft"](333, 517), working_megapixels=0.4)
    assert region.frame.scale > 1
    assert torch.equal(paste_region(region.crop, region).images[0], source)


@settings(max_examples=60)
@given(
    width=st.integers(24, 420),
    height=st.integers(24, 420),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.002, 0.05, 0.3]),
    grow=st.integers(0, 30),
    feather=st.integers(0, 30),
    context=st.floats(1, 4),
    working=st.sampled_from([0.1, 0.15, 0.3]),
)
def test_it_holds_for_any_picture_and_any_mask(
    width: int,
    height: int,
    seed: int,
    share: float,
    grow: int,
    feather: int,
    context: float,
    working: float,
) -> None:
    source = _photo(width, height)
    mask = blob(width, height, seed, share)
    region = crop_region(source, mask, grow, feather, context, working)
    _assert_kept_outside(paste_region(_noise(region), region).images[0], region)
    same = paste_region(_in_bytes(region.crop), region, match_colour=bool(seed % 2)).images[0]
    _assert_kept_outside(same, region)
    if region.frame.scale >= 1:
        assert _error(same, source) <= 1.0
    else:
        assert _psnr(same, source) > 20


@pytest.mark.parametrize(
    ("radius", "context", "least_psnr"), [(60, 1.5, None), (300, 1.5, None), (900, 1.1, 26.0)]
)
def test_it_holds_at_twelve_megapixels(
    radius: int, context: float, least_psnr: float | None
) -> None:
    source = _photo(4000, 3000)
    mask = disc(4000, 3000, radius, (1500.0, 1300.0)) * blob(4000, 3000, radius, 0.7)
    region = crop_region(source[None], mask[None], context=context)
    edited = paste_region(_noise(region)[None], region).images[0]
    _assert_kept_outside(edited, region)
    same = paste_region(_in_bytes(region.crop)[None], region).images[0]
    _assert_kept_outside(same, region)
    if least_psnr is None:
        assert _error(same, source) <= 1.0
    else:
        assert "detail finer than" in region.describe()
        inside = region.mask.bounds.slices
        assert _psnr(same[inside], source[inside]) > least_psnr


def test_near_the_working_area_the_crop_is_the_picture_bit_for_bit() -> None:
    source = _photo(900, 700)
    mask = _at(200, 150, 180, 200)(900, 700)
    region = crop_region(source, mask, 8, 8, 1.5, 0.1)
    assert region.frame.scale == 1.0
    frame = region.frame
    rows = slice(frame.top, frame.top + frame.size.height)
    columns = slice(frame.left, frame.left + frame.size.width)
    assert torch.equal(region.crop, source[rows, columns])


@pytest.mark.parametrize(("working", "side"), [(0.1, 60), (0.1, 200), (0.1, 400)])
def test_the_way_back_neither_shifts_nor_zooms(working: float, side: int) -> None:
    """On a ramp a shift shows as an offset, a zoom as another slope."""
    across = torch.linspace(0.2, 0.8, 900).repeat(900, 1)
    source = torch.stack([across, across.T, across], dim=-1)
    mask = _at(301, 257, side, side)(900, 900)
    region = crop_region(source, mask, 0, 0, 1.5, working)
    # The whole edit is a little brighter, so that nothing of the source shines through.
    found = paste_region(region.crop + 26 / 255, region, match_colour=False).images[0]
    inner = (slice(257 + 8, 257 + side - 8), slice(301 + 8, 301 + side - 8))
    step = 0.6 / 899
    shift = (found[inner] - 26 / 255 - source[inner]).mean(dim=(0, 1)) / step
    assert shift.abs().max() < 0.1
    assert _error(found[inner] - 26 / 255, source[inner]) < 1


@pytest.mark.parametrize("size", [(333, 517), (700, 500)], ids=str)
@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("working", [0.1, 0.17, 0.5])
def test_an_edit_of_another_size_is_scaled(
    size: tuple[int, int], factor: float, working: float
) -> None:
    source = torch.nn.functional.avg_pool2d(_photo(*size).permute(2, 0, 1), 9, 1, 4).permute(
        1, 2, 0
    )
    region = crop_region(source, MASKS["blob"](*size), working_megapixels=working)
    height, width = (int(side * factor) for side in region.crop.shape[:2])
    edited = torch.nn.functional.interpolate(
        region.crop.permute(2, 0, 1)[None], size=(height, width), mode="bicubic", antialias=True
    )[0].permute(1, 2, 0)
    found = paste_region(edited.clamp(0, 1), region).images[0]
    _assert_kept_outside(found, region)
    assert _psnr(found, source) > 40


def test_each_picture_of_a_batch_is_pasted() -> None:
    source = _photo(300, 200)
    region = crop_region(source, MASKS["blob"](300, 200), working_megapixels=0.1)
    edits = torch.stack([_noise(region), region.crop, region.crop * 0.9])
    found = paste_region(edits, region)
    assert found.images.shape == (3, 200, 300, 3)
    assert torch.equal(found.images[0], paste_region(edits[0], region).images[0])
    assert _error(found.images[1], source) <= 1.0
    assert "picture 1: colour not matched" in found.describe()
    assert "picture 3: colour matched: R +" in found.describe()


def test_a_hard_edge_is_where_the_mask_says() -> None:
    source = _photo(200, 200)
    mask = _at(60, 80, 40, 30)(200, 200)
    region = crop_region(source, mask, 0, 0, 2.0, 0.1)
    found = paste_region(torch.zeros_like(region.crop), region, match_colour=False).images[0]
    # Detail that the edit did not keep stays away: nothing of the source is left.
    assert _error(found, source * (1 - mask[..., None])) < 1


@pytest.mark.parametrize(("feather", "least", "most"), [(0, 7.5, 8.5), (32, 0.1, 0.75)])
def test_a_feathered_seam_has_no_step(feather: int, least: float, most: float) -> None:
    source = torch.full((400, 400, 3), 0.5)
    region = crop_region(source, disc(400, 400, 60, (200, 190)), 8, feather, 1.5, 0.1)
    found = paste_region(region.crop + 8 / 255, region, match_colour=False).images[0]
    steps = max(_error(found[1:], found[:-1]), _error(found[:, 1:], found[:, :-1]))
    assert least < steps < most


def test_transparency_is_laid_over_white_and_told() -> None:
    clear = torch.zeros(80, 80, 4)
    region = crop_region(clear, MASKS["blob"](80, 80), working_megapixels=0.1)
    assert "transparency was laid over white" in region.describe()
    assert (paste_region(region.crop, region).images == 1).all()


def test_grey_pictures_and_edits_are_taken() -> None:
    region = crop_region(torch.full((80, 80, 1), 0.25), torch.ones(80, 80), working_megapixels=0.1)
    found = paste_region(torch.full((*region.crop.shape[:2], 1), 0.5), region).images
    assert found.shape == (1, 80, 80, 3)
    assert _error(found, torch.full_like(found, 0.5)) < 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_dtype_is_taken(dtype: torch.dtype) -> None:
    source = _photo(120, 90).to(dtype)
    mask = _at(60, 40, 20, 30)(120, 90).to(dtype)
    region = crop_region(source, mask, 4, 4, 1.5, 0.1)
    found = paste_region(region.crop.to(dtype), region).images[0]
    assert torch.equal(found.to(dtype)[:30], source[:30])
    assert _error(found, source.float()) <= 1.0


def test_neither_picture_nor_edit_is_touched() -> None:
    source = _photo(120, 90)
    region = crop_region(source, MASKS["whole"](120, 90), working_megapixels=0.1)
    edited = _noise(region)
    before = source.clone(), edited.clone(), region.crop.clone()
    paste_region(edited, region)
    assert all(map(torch.equal, before, (source, edited, region.crop)))


def test_what_was_cut_is_told() -> None:
    region = crop_region(_photo(900, 700), _at(300, 200, 320, 320)(900, 700), 0, 0, 1.5, 0.1)
    first, lost = region.describe().split("\n")
    frame, box = region.frame, round(region.frame.width)
    assert first.startswith(f"box {box}x{box} at {frame.left}, {frame.top} of 900x700")
    assert f"crop 304x304 · scale {304 / box:.4g}" in first
    assert lost.startswith(f"the crop is {box}x{box}, edited at 304x304: detail finer than 1.6")
    assert "a smaller mask, less context or more working_megapixels" in lost


def test_a_picture_that_ends_inside_the_crop_is_told() -> None:
    region = crop_region(_photo(900, 100), torch.ones(100, 900))
    assert "its edge pixels are repeated" in region.describe()


PICTURE = {"image": torch.full((1, 60, 80, 3), 0.5), "mask": torch.ones(60, 80)}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"image": torch.zeros(2, 60, 80, 3)}, "image holds 2 pictures. Feed them one by one"),
        ({"image": torch.zeros(60, 80)}, "image is not a picture"),
        ({"image": torch.full((60, 80, 3), float("nan"))}, "image holds NaN"),
        ({"mask": torch.zeros(1, 64, 64)}, "The mask is empty"),
        ({"grow": -1}, "grow is -1"),
        ({"grow": 513}, "grow is 513"),
        ({"feather": 257}, "feather is 257"),
        ({"context": 0.9}, "context is 0.9"),
        ({"context": float("nan")}, "context is nan"),
        ({"working_megapixels": 0.0}, "working_megapixels is 0.0"),
        ({"working_megapixels": 17.0}, "working_megapixels is 17.0"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        crop_region(**{**PICTURE, **asked})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda crop: crop[:, :-16], "Set the edit's size to match image"),
        (lambda crop: crop * float("nan"), "edited holds NaN"),
        (lambda crop: crop / 0, "edited holds NaN or infinite"),
        (lambda crop: crop[..., :2], "edited is not a picture"),
    ],
)
def test_what_cannot_be_pasted_is_refused_in_words(
    change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        paste_region(change(PASTE.crop), PASTE)


PASTE = crop_region(torch.full((60, 80, 3), 0.5), torch.ones(60, 80), working_megapixels=0.1)
