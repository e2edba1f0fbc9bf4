"""What an edit did to colour and detail that it should have kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage import data

from firered_edit.pipeline.images import to_tensor
from firered_edit.pipeline.region import Region, crop_region, paste_region
from support.blobs import disc

PHOTOS = {
    "portrait": to_tensor(data.astronaut()[:400, :500]),
    "cat": to_tensor(data.chelsea()[:300, :450]),
    "cup": to_tensor(data.coffee()),
}


def _region(source: torch.Tensor, working_megapixels: float = 0.1) -> Region:
    height, width = source.shape[:2]
    mask = disc(width, height, 0.2 * height, (0.5 * width, 0.45 * height))
    return crop_region(source, mask, 8, 16, 1.6, working_megapixels)


def _other_content(region: Region) -> torch.Tensor:
    """The crop with its middle, all of it inside the mask, upside down."""
    edited = region.crop.clone()
    height, width = edited.shape[:2]
    middle = (slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3))
    edited[middle] = edited[middle].flip(0)
    return edited


def _mean_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().mean()) * 255


def _drifted(edited: torch.Tensor, seed: int) -> torch.Tensor:
    """``edited`` with a gain of 0.9 to 1.1 and an offset of up to 12 of 255 in each channel."""
    rng = np.random.default_rng(seed)
    gain, offset = rng.uniform(0.9, 1.1, 3), rng.uniform(-12, 12, 3) / 255
    return edited * torch.from_numpy(gain).float() + torch.from_numpy(offset).float()


@pytest.mark.parametrize("source", PHOTOS.values(), ids=PHOTOS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("working_megapixels", [0.1, 0.4])
def test_a_change_of_colour_is_undone(
    source: torch.Tensor, seed: int, working_megapixels: float
) -> None:
    region = _region(source, working_megapixels)
    edited = _other_content(region)
    expected = paste_region(edited, region, match_colour=False).images[0]
    drifted = _drifted(edited, seed).clamp(0, 1)
    inside = region.mask.bounds.slices
    found = paste_region(drifted, region).images[0]
    unmatched = paste_region(drifted, region, match_colour=False).images[0]
    assert _mean_error(found[inside], expected[inside]) < 1.0
    assert _mean_error(unmatched[inside], expected[inside]) > 2.0


@pytest.mark.parametrize("source", PHOTOS.values(), ids=PHOTOS)
def test_other_content_in_a_part_of_the_ring_does_not_count(source: torch.Tensor) -> None:
    region = _region(source)
    edited = _other_content(region)
    expected = paste_region(edited, region, match_colour=False).images[0]
    drifted = _drifted(edited, 1)
    drifted[:, : drifted.shape[1] // 4] = torch.tensor([0.9, 0.1, 0.2])
    noise = torch.randn(drifted.shape, generator=torch.Generator().manual_seed(3))
    found = paste_region(drifted + 4 / 255 * noise, region).images[0]
    middle = tuple(slice(side * 45 // 100, side * 55 // 100) for side in source.shape[:2])
    bias = (found[middle] - expected[middle]).mean(dim=(0, 1)) * 255
    assert bias.abs().max() < 1.0


def test_an_unchanged_ring_changes_nothing_at_all() -> None:
    region = _region(PHOTOS["portrait"])
    edited = _other_content(region)
    found = paste_region(edited, region)
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)
    assert found.notes == ("the colour around the mask is unchanged",)


def test_a_flat_ring_moves_colours_and_does_not_stretch_them() -> None:
    region = _region(torch.full((300, 300, 3), 0.6))
    height, width = region.crop.shape[:2]
    edited = region.crop.clone()
    rows, columns = slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3)
    edited[rows, columns] = torch.linspace(0.1, 0.9, columns.stop - columns.start)[:, None]
    noise = 2 / 255 * torch.randn(edited.shape, generator=torch.Generator().manual_seed(1))
    expected = paste_region(edited, region, match_colour=False).images
    found = paste_region(edited + noise - 9 / 255, region)
    error = (found.images - expected)[:, 140:160, 130:170].mean(dim=(0, 1)) * 255
    assert error.abs().max() < 2
    assert found.notes[0] == "colour matched: R +9.0 G +9.0 B +9.0 of 255"


def test_what_was_matched_is_told() -> None:
    region = _region(PHOTOS["cat"])
    edited = region.crop - torch.tensor([1.2, -0.4, 3.0]) / 255
    words = paste_region(edited, region).describe().split("\n")
    assert words == ["pasted into 450x300", "colour matched: R +1.2 G -0.4 B +3.0 of 255"]


def test_a_great_change_is_meant_and_stays() -> None:
    region = _region(PHOTOS["portrait"])
    edited = region.crop * 0.9 - 40 / 255
    found = paste_region(edited, region)
    assert "the edit changed what surrounds the mask too" in found.describe()
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)


@pytest.mark.parametrize(("picture", "mask"), [(200, 200), (200, 196)])
def test_without_a_ring_nothing_is_matched_and_that_is_told(picture: int, mask: int) -> None:
    painted = torch.zeros(picture, picture)
    painted[:mask, :mask] = 1
    region = crop_region(torch.rand(picture, picture, 3), painted, 0, 0, 1.0, 0.1)
    edited = region.crop * 0.9
    found = paste_region(edited, region)
    assert "the crop shows too little around the mask" in found.describe()
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)


def test_a_ring_that_became_another_picture_is_not_matched() -> None:
    region = _region(PHOTOS["portrait"])
    edited = torch.rand(region.crop.shape, generator=torch.Generator().manual_seed(1))
    found = paste_region(edited, region)
    assert "the edit changed what surrounds the mask too" in found.describe()
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)


def test_what_lies_beyond_the_picture_is_not_compared() -> None:
    source = PHOTOS["cup"][:24]
    mask = torch.zeros(24, 600)
    mask[10:14, 100:500] = 1
    region = crop_region(source, mask, 0, 0, 4.0, 0.1)
    assert region.frame.height > 2 * 24
    edited = region.crop.clone()
    edited[int(24 * region.frame.scale) + 1 :] *= 0.9
    found = paste_region(edited, region)
    assert found.notes == ("the colour around the mask is unchanged",)
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)


def test_new_content_does_not_count_where_resampling_spread_it() -> None:
    source = PHOTOS["portrait"]
    region = _region(source)
    mask = region.mask.laid_on(region.size)
    changed = torch.where(mask[..., None] > 0, torch.tensor([0.0, 1.0, 0.0]), source)
    height, width = source.shape[:2]
    painted = disc(width, height, 0.2 * height, (0.5 * width, 0.45 * height))
    edited = crop_region(changed, painted, 8, 16, 1.6, 0.1).crop
    found = paste_region(edited, region)
    assert torch.equal(found.images, paste_region(edited, region, match_colour=False).images)


def test_what_is_near_the_mask_counts_and_what_is_far_does_not() -> None:
    source = PHOTOS["cup"]
    region = crop_region(source, disc(600, 400, 25, (300, 200)), 0, 0, 4.0, 0.1)
    height, width = region.crop.shape[:2]
    far = disc(width, height, 0.33 * width, (width / 2, height / 2))[..., None] == 0
    assert far.float().mean() > 0.6
    edited = region.crop + torch.where(far, 20.0, -5.0) / 255
    assert paste_region(edited, region).notes == ("colour matched: R +5.0 G +5.0 B +5.0 of 255",)


def _page() -> torch.Tensor:
    """Black print on white: the finest detail there is."""
    page = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(page)
    for y in range(0, 400, 14):
        draw.text((2, y), "The quick brown fox jumps over the lazy dog " * 2, fill="black")
    return to_tensor(np.asarray(page))


@pytest.mark.parametrize("source", [*PHOTOS.values(), _page()], ids=[*PHOTOS, "page"])
@pytest.mark.parametrize("side", [40, 80, 140])
def test_replaced_content_leaves_no_ghost(source: torch.Tensor, side: int) -> None:
    mask = torch.zeros(source.shape[:2])
    mask[100 : 100 + side, 120 : 120 + side] = 1
    region = crop_region(source, mask, 0, 0, 1.4, 0.1)
    assert region.frame.scale > 1
    found = paste_region(torch.full_like(region.crop, 0.6), region, match_colour=False).images[0]
    assert (found[region.mask.bounds.slices] - 0.6).abs().max() * 255 < 1.5


@pytest.mark.parametrize("source", [*PHOTOS.values(), _page()], ids=[*PHOTOS, "page"])
@pytest.mark.parametrize("side", [40, 80, 140])
def test_another_picture_in_its_place_is_pasted_alike_on_any_source(
    source: torch.Tensor, side: int
) -> None:
    mask = torch.zeros(source.shape[:2])
    mask[100 : 100 + side, 120 : 120 + side] = 1
    region, plain = (
        crop_region(picture, mask, 0, 0, 1.4, 0.1)
        for picture in (source, torch.full_like(source, 0.5))
    )
    other = to_tensor(data.rocket())[: region.frame.size.height, : region.frame.size.width]
    found, expected = (
        paste_region(other, each, match_colour=False).images[0][region.mask.bounds.slices]
        for each in (region, plain)
    )
    assert found.min() >= 0
    assert found.max() <= 1
    ghost = (found - expected) * 255
    assert (ghost**2).mean().sqrt() < 0.5


@pytest.mark.parametrize("source", [*PHOTOS.values(), _page()], ids=[*PHOTOS, "page"])
@pytest.mark.parametrize("side", [40, 80, 140])
def test_kept_content_keeps_its_finest_detail_under_noise(source: torch.Tensor, side: int) -> None:
    mask = torch.zeros(source.shape[:2])
    mask[100 : 100 + side, 120 : 120 + side] = 1
    region = crop_region(source, mask, 0, 0, 1.4, 0.1)
    noise = torch.randn(region.crop.shape, generator=torch.Generator().manual_seed(2))
    edited = (region.crop + 3 / 255 * noise).clamp(0, 1)
    found = paste_region(edited, region, match_colour=False).images[0]
    inside = region.mask.bounds.slices
    assert _mean_error(found[inside], source[inside]) < 2.0
    assert (found[inside] - source[inside]).abs().max() * 255 < 14
