"""What is painted, and what of it is replaced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.geometry import Size
from firered_edit.pipeline.region.masks import Alpha, dilated, read_mask, spread
from support.blobs import blob, disc

PICTURE = Size(160, 120)


def _effective(mask: torch.Tensor, grow: int, feather: int) -> Alpha:
    height, width = mask.shape
    size = Size(width, height)
    laid = spread(read_mask(mask, size), grow, feather, size).laid_on(size)
    return np.rint(laid.numpy() * 255).astype(np.uint8)


def _reach(mask: torch.Tensor, pixels: int) -> np.ndarray:
    """Where a square of ``pixels`` around each pixel meets what is painted."""
    across = torch.nn.functional.max_pool2d(mask[None], (1, 2 * pixels + 1), 1, (0, pixels))
    grown = torch.nn.functional.max_pool2d(across, (2 * pixels + 1, 1), 1, (pixels, 0))
    return grown[0].numpy() > 0


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    grow=st.integers(0, 40),
    feather=st.integers(0, 40),
    share=st.sampled_from([0.002, 0.05, 0.3, 1.0]),
)
def test_the_painted_is_replaced_wholly_and_nothing_beyond_the_feather(
    seed: int, grow: int, feather: int, share: float
) -> None:
    mask = blob(PICTURE.width, PICTURE.height, seed, share)
    effective = _effective(mask, grow, feather)
    assert (effective[mask.numpy() == 1] == 255).all()
    assert not effective[~_reach(mask, grow + feather)].any()


def test_without_growth_and_feather_the_mask_is_kept_exactly() -> None:
    levels = torch.linspace(0, 1, 256).repeat(4, 1)
    assert _effective(levels, 0, 0).tolist() == [list(range(256))] * 4


@pytest.mark.parametrize(("grow", "feather"), [(0, 1), (0, 17), (9, 0), (8, 16)])
def test_a_soft_mask_keeps_at_least_its_own_values(grow: int, feather: int) -> None:
    soft = torch.rand(120, 160, generator=torch.Generator().manual_seed(1))
    effective = _effective(soft, grow, feather)
    assert (effective >= np.rint(soft.numpy() * 255)).all()


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 16, 64, 512])
def test_growth_is_nearly_round(radius: int) -> None:
    side = 2 * radius + 3
    point = np.zeros((side, side), np.uint8)
    point[radius + 1, radius + 1] = 200
    grown = dilated(point, radius)
    assert set(np.unique(grown)) == {0, 200}
    y, x = grown.nonzero()
    distance = np.hypot(x - radius - 1, y - radius - 1)
    assert np.abs(x - radius - 1).max() == np.abs(y - radius - 1).max() == radius
    assert distance.max() <= 1.09 * radius + 1.5
    inside = disc(side, side, radius - 1, (radius + 1, radius + 1)).numpy() > 0
    assert (grown[inside] == 200).all()


@pytest.mark.parametrize("feather", [1, 2, 7, 16, 255, 256])
def test_the_feather_falls_steadily_from_all_to_nothing(feather: int) -> None:
    mask = torch.zeros(40, 700)
    mask[:, :100] = 1
    row = _effective(mask, 20, feather)[20].astype(int)
    assert (row[:120] == 255).all()
    assert not row[120 + feather :].any()
    assert (np.diff(row) <= 0).all()
    if feather > 8:
        assert np.abs(np.diff(row)).max() <= 1.7 * 255 / feather + 1
        assert row[120 + feather // 2] == pytest.approx(128, abs=1.7 * 255 / feather + 1)


def test_a_mask_at_the_edge_stays_whole_there() -> None:
    mask = torch.zeros(60, 60)
    mask[:, :10] = 1
    assert (_effective(mask, 8, 16)[:, :18] == 255).all()


def test_a_mask_of_another_size_and_the_same_aspect_is_scaled() -> None:
    small = disc(200, 150, 30, (60, 50))
    found = read_mask(small, Size(800, 600)).laid_on(Size(800, 600))
    expected = disc(800, 600, 120, (241.5, 201.5))
    assert (found - expected).abs().mean() < 0.003


@pytest.mark.parametrize("shape", [(120, 160), (1, 120, 160)])
def test_one_mask_is_taken_with_and_without_its_batch(shape: tuple[int, ...]) -> None:
    assert read_mask(torch.ones(shape), PICTURE).bounds.width == PICTURE.width


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(120, 160), "The mask is empty"),
        (torch.zeros(1, 64, 64), "The mask is empty"),
        (torch.full((120, 160), 0.001), "The mask is empty"),
        (torch.ones(64, 64), "mask is 64x64 pixels, image is 160x120"),
        (torch.ones(2, 120, 160), "Connect one mask"),
        (torch.ones(120, 160, 1), "Connect one mask"),
        (torch.ones(160), "mask is not a mask"),
        (torch.full((120, 160), float("nan")), "mask holds NaN"),
        (torch.full((120, 160), float("inf")), "mask holds NaN or infinite"),
    ],
)
def test_what_is_no_mask_is_refused_in_words(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_mask(mask, PICTURE)


def test_a_speck_that_is_scaled_to_nothing_is_an_empty_mask() -> None:
    speck = torch.zeros(1200, 1600)
    speck[600, 800] = 0.1
    with pytest.raises(InputError, match="The mask is empty"):
        read_mask(speck, PICTURE)


def test_values_beyond_one_are_taken_as_one() -> None:
    assert read_mask(torch.full((120, 160), 7.0), PICTURE).alpha.max() == 255
