"""Pictures between floats and bytes: quicker than the plain way, and equal to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from firered_edit.pipeline.canvas import place
from firered_edit.pipeline.geometry import MatchImage, Size, plan
from firered_edit.pipeline.images import Pixels, to_tensor, to_uint8


def _plainly(picture: torch.Tensor) -> Pixels:
    return (picture * 255).round().clamp(0, 255).to(torch.uint8).numpy()


@pytest.mark.parametrize("height", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bytes_are_those_of_rounding_the_whole_picture(height: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(height)
    picture = torch.rand(height, 23, channels, generator=generator) * 1.4 - 0.2
    halves = torch.arange(23)[:, None].expand(23, channels) + 0.5
    picture[0] = halves / 255
    assert np.array_equal(to_uint8("picture", picture), _plainly(picture))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_is_rounded_as_float32(dtype: torch.dtype) -> None:
    picture = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert np.array_equal(to_uint8("picture", picture), _plainly(picture.float()))


def test_a_picture_is_not_written_into() -> None:
    picture = torch.rand(40, 30, 3, generator=torch.Generator().manual_seed(0))
    before = picture.clone()
    to_uint8("picture", picture)
    assert torch.equal(picture, before)


def test_a_view_is_read_as_it_is_seen() -> None:
    picture = torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0)).movedim(0, 2)
    assert np.array_equal(to_uint8("picture", picture), _plainly(picture))


def test_floats_are_exactly_a_255th_of_bytes() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    pixels.flags.writeable = False  # as Pillow and the cache of fal's results hand them out
    found = to_tensor(pixels)
    assert torch.equal(found, torch.from_numpy(pixels.copy()).to(torch.float32) / 255)
    assert np.array_equal(to_uint8("picture", found), pixels)


def test_a_picture_on_its_own_grid_is_not_copied() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    (fit,) = plan(MatchImage(), [Size(96, 64)], 0.0).fits
    assert place(pixels, fit) is pixels
