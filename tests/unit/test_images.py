"""Pictures in and out."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from firered_edit.pipeline import images
from firered_edit.pipeline.errors import InputError, ResultError
from support.kinds import MakePhoto


def test_sockets_and_batches_become_numbered_references() -> None:
    sockets = {"image_1": torch.rand(2, 20, 30, 3), "image_3": torch.rand(1, 40, 20, 3)}
    found = images.references_from(sockets)
    assert [str(reference.size) for reference in found] == ["30x20", "30x20", "20x40"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_is_taken(dtype: torch.dtype) -> None:
    (found,) = images.references_from({"image_1": torch.ones(1, 4, 4, 3, dtype=dtype)})
    assert (found.pixels == 255).all()


def test_every_8_bit_value_survives_the_way_through_a_tensor() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    (found,) = images.references_from({"image_1": images.to_tensor(values)[None]})
    assert (found.pixels == values).all()


def test_one_channel_is_grey() -> None:
    (found,) = images.references_from({"image_1": torch.full((1, 2, 2, 1), 0.5)})
    assert found.pixels.shape == (2, 2, 3)
    assert not found.had_alpha


def test_transparency_is_laid_over_white_and_told() -> None:
    half = torch.tensor([0.0, 0.0, 0.0, 0.5]).expand(1, 2, 2, 4)
    (found,) = images.references_from({"image_1": half})
    assert found.had_alpha
    assert found.pixels[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 2), (1, 0, 4, 3), (0, 4, 4, 3), (1, 4, 4, 5)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="image_1 is not a picture"):
        images.references_from({"image_1": torch.zeros(shape)})


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="image_2 holds NaN"):
        images.references_from({"image_2": torch.full((1, 4, 4, 3), float("nan"))})


def test_more_than_ten_are_refused() -> None:
    with pytest.raises(InputError, match="11 pictures"):
        images.references_from({"image_1": torch.zeros(11, 4, 4, 3)})


def test_png_is_lossless(photo: MakePhoto) -> None:
    pixels = photo(97, 61)
    assert (images.decode(images.encode_png(pixels)) == pixels).all()


def test_jpeg_keeps_full_colour_resolution(photo: MakePhoto) -> None:
    with Image.open(io.BytesIO(images.encode_jpeg(photo(64, 64)))) as opened:
        assert opened.format == "JPEG"
        assert [component[1:3] for component in opened.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n" + bytes(80)])
def test_what_is_no_picture_is_not_decoded(data: bytes) -> None:
    with pytest.raises(ResultError):
        images.decode(data)


def test_a_truncated_picture_is_not_decoded(photo: MakePhoto) -> None:
    with pytest.raises(ResultError):
        images.decode(images.encode_png(photo(64, 64))[:-200])


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_black_and_nan_are_never_shown(value: float) -> None:
    with pytest.raises(ResultError):
        images.check_shown(torch.full((4, 4, 3), value))
