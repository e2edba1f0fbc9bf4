"""Drift of whole batches: tensors, sizes, masks, and what is told of it."""

from __future__ import annotations

import json
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from firered_edit.pipeline.drift import Comparison, Drift, compare, describe, to_json
from firered_edit.pipeline.errors import EditCancelled, InputError
from firered_edit.pipeline.geometry import Size
from firered_edit.pipeline.host import PlainHost
from support.warps import warped

WIDTH, HEIGHT = 240, 160


@cache
def _photo() -> torch.Tensor:
    """(H, W, 3); tests share it, and nothing may write to it."""
    return torch.from_numpy(_cut(240, 160))


def _cut(width: int, height: int) -> np.ndarray:
    """A photograph of 480 x 320 pixels scaled down."""
    whole = Image.fromarray(np.ascontiguousarray(data.coffee()[:320, :480]))
    scaled = whole.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(scaled).astype(np.float32) / 255


def _moved(x: float, y: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(warped(_photo().numpy(), (x, y), scale))


def _compare(
    before: torch.Tensor,
    after: torch.Tensor,
    mask: torch.Tensor | None = None,
    aligned: bool = False,
) -> Comparison:
    return compare(before, after, mask, aligned, PlainHost())


def _left(share: float, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    """A mask of the left ``share``."""
    mask = torch.zeros(height, width)
    mask[:, : round(share * width)] = 1
    return mask


def _spoiled(picture: torch.Tensor) -> torch.Tensor:
    """``picture`` with its left half made darker, up to a few pixels from the middle."""
    return torch.where(_left(0.48)[..., None] > 0, picture * 0.3, picture)


@pytest.mark.parametrize("sources", [1, 3])
def test_a_batch_is_compared_picture_by_picture(sources: int) -> None:
    shifts = [0.0, 2.5, -4.25]
    after = torch.stack([_moved(shift) for shift in shifts])
    found = _compare(_photo().expand(sources, -1, -1, -1), after)
    assert [drift.shift[0] for drift in found.drifts] == pytest.approx(shifts, abs=0.02)
    assert (found.before, found.after) == (Size(WIDTH, HEIGHT), Size(WIDTH, HEIGHT))
    assert found.images is None


def test_each_picture_has_its_own_source_and_mask() -> None:
    before = torch.stack([_photo(), _photo().flip(1)])
    after = torch.stack([_spoiled(_photo()), _moved(3.5).flip(1)])
    found = _compare(before, after, torch.stack([_left(0.5), _left(0.0)]))
    assert [drift.shift[0] for drift in found.drifts] == pytest.approx([0, -3.5], abs=0.02)
    assert found.drifts[0].colour == (0, 0, 0)
    assert found.drifts[0].area == pytest.approx(0.5)
    assert found.drifts[1].area > 0.9
    assert found.masked


@pytest.mark.parametrize(
    ("before", "after", "mask", "words"),
    [
        (2, 3, 0, "before holds 2, after 3 pictures"),
        (3, 1, 0, "before holds 3, after 1 pictures"),
        (1, 2, 3, "mask holds 3, after 2 pictures"),
    ],
)
def test_counts_that_do_not_match_are_an_error(
    before: int, after: int, mask: int, words: str
) -> None:
    batches = [_photo().expand(count, -1, -1, -1) for count in (before, after)]
    masks = _left(0.5).expand(mask, -1, -1) if mask else None
    with pytest.raises(InputError, match=words):
        _compare(*batches, masks)


@pytest.mark.parametrize("size", [(480, 320), (120, 80), (200, 133), (182, 121)])
def test_another_size_of_the_same_aspect_is_scaled_and_said(size: tuple[int, int]) -> None:
    after = torch.from_numpy(_cut(*size))[None]
    found = _compare(_photo(), after, aligned=True)
    (drift,) = found.drifts
    assert drift.shift == pytest.approx((0, 0), abs=0.05)
    assert drift.scale == pytest.approx(1, abs=0.5 / size[1])
    assert found.images is not None
    assert found.images.shape == (1, HEIGHT, WIDTH, 3)
    told = f"after was scaled from {size[0]}x{size[1]} to 240x160 first"
    assert told in describe(found)
    assert told in json.loads(to_json(found))["notices"]


@pytest.mark.parametrize("size", [(240, 163), (160, 240), (500, 320)])
def test_another_aspect_is_an_error(size: tuple[int, int]) -> None:
    after = torch.from_numpy(_cut(*size))
    with pytest.raises(InputError, match=f"after is {size[0]}x{size[1]} pixels, before 240x160"):
        _compare(_photo(), after)
    mask = _left(0.5, *size)
    with pytest.raises(InputError, match=f"mask is {size[0]}x{size[1]} pixels, before is 240x160"):
        _compare(_photo(), _photo(), mask)


@pytest.mark.parametrize("size", [(240, 160), (480, 320), (90, 60)])
def test_a_mask_may_have_another_size(size: tuple[int, int]) -> None:
    (drift,) = _compare(_photo(), _spoiled(_photo()), _left(0.5, *size)).drifts
    assert drift.colour == (0, 0, 0)
    assert drift.area == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("mask", [None, torch.zeros(64, 64), _left(0.5) * 0.04])
def test_an_empty_mask_is_none(mask: torch.Tensor | None) -> None:
    found = _compare(_photo(), _photo(), mask)
    assert found.drifts[0].area == 1
    assert not found.masked
    assert "outside the mask" not in describe(found)


def test_a_mask_that_covers_everything_is_an_error() -> None:
    with pytest.raises(InputError, match="covers the whole picture"):
        _compare(_photo(), _photo(), torch.full((80, 120), 0.5))


@pytest.mark.parametrize(
    ("name", "before", "after", "mask"),
    [
        ("before", torch.full((16, 16, 3), math.nan), torch.zeros(16, 16, 3), None),
        ("after", torch.zeros(16, 16, 3), torch.full((16, 16, 3), math.inf), None),
        ("mask", torch.zeros(16, 16, 3), torch.zeros(16, 16, 3), torch.full((16, 16), math.nan)),
        ("before", torch.zeros(16, 16, 2), torch.zeros(16, 16, 3), None),
        ("after", torch.zeros(16, 16, 3), torch.zeros(0, 16, 16, 3), None),
        ("mask", torch.zeros(16, 16, 3), torch.zeros(16, 16, 3), torch.zeros(1, 1, 16, 16)),
    ],
)
def test_what_is_no_picture_is_an_error(
    name: str, before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor | None
) -> None:
    with pytest.raises(InputError, match=f"{name}( holds NaN or| is not a)"):
        _compare(before, after, mask)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_is_compared(dtype: torch.dtype) -> None:
    (drift,) = _compare(_photo(), _moved(1.5, -2.25, 1.01).to(dtype)).drifts
    assert (*drift.shift, drift.scale) == pytest.approx((1.5, -2.25, 1.01), abs=0.02)


def test_grey_pictures_and_transparent_ones_are_compared_as_they_look() -> None:
    grey = _photo().mean(dim=2, keepdim=True)
    (drift,) = _compare(grey, grey.expand(-1, -1, 3)).drifts
    assert (drift.shift, drift.colour) == ((0, 0), (0, 0, 0))
    alpha = torch.full((HEIGHT, WIDTH, 1), 0.6)
    (drift,) = _compare(_photo(), torch.cat([_photo(), alpha], dim=2)).drifts
    lighter = 255 * 0.4 * (1 - _photo().mean(dim=(0, 1), dtype=torch.float64))
    assert drift.colour == pytest.approx(lighter.tolist(), abs=0.01)
    assert drift.shift == pytest.approx((0, 0), abs=0.001)


def test_an_aligned_batch_has_not_moved_and_what_cannot_be_told_stays() -> None:
    flat = torch.full((HEIGHT, WIDTH, 3), 0.3)
    found = _compare(_photo(), torch.stack([_moved(6.4, -3.1, 0.98), flat]), aligned=True)
    images = found.images
    assert images is not None
    assert (images.dtype, images.device.type) == (torch.float32, "cpu")
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    (drift,) = _compare(_photo(), images[:1]).drifts
    assert (*drift.shift, drift.scale) == pytest.approx((0, 0, 1), abs=0.02)
    assert (images[1] == flat).all()


def test_cancel_is_heard_between_pictures() -> None:
    answers = iter([False, True])
    host = PlainHost(cancelled=lambda: next(answers))
    with pytest.raises(EditCancelled):
        compare(_photo(), _photo().expand(3, -1, -1, -1), None, False, host)
    assert next(answers, None) is None


def test_nothing_given_is_written_to() -> None:
    given = [_photo().clone(), _moved(2.5), _left(0.2)]
    kept = [each.clone() for each in given]
    _compare(given[0], given[1], given[2], aligned=True)
    assert all(torch.equal(one, other) for one, other in zip(given, kept, strict=True))


DRIFT = Drift(
    shift=(0.004, -0.004),
    scale=1.01234,
    colour=(0.12, -0.21, -0.04),
    delta_e=0.318,
    agreement=0.9,
    area=0.75,
)
LOST = Drift((math.nan, math.nan), math.nan, (0.0, 0.0, 0.0), 0.0, 0.0, 1.0, "all is grey")


def _told(*drifts: Drift, masked: bool = False) -> str:
    size = Size(16, 16)
    return describe(Comparison(size, size, masked, drifts, None))


def test_the_words_are_short_and_zero_has_no_sign() -> None:
    assert _told(DRIFT, masked=True) == (
        "shift 0.00, 0.00 px · scale 1.0123 · colour +0.1 -0.2 +0.0 of 255 · ΔE 0.3, outside the "
        "mask"
    )
    assert _told(LOST) == (
        "shift and scale not measurable: all is grey · colour +0.0 +0.0 +0.0 of 255 · ΔE 0.0"
    )


def test_a_batch_has_a_line_for_each_picture_as_far_as_there_is_room() -> None:
    lines = _told(*[DRIFT] * 20).splitlines()
    assert [line[:10] for line in lines[:2]] == ["picture 1:", "picture 2:"]
    assert lines[-1] == "and 12 more, in the report"
    assert len(lines) == 9


def test_few_witnesses_are_named() -> None:
    few = Drift((1.0, 0.0), 1.0, (0.0, 0.0, 0.0), 1.0, 0.31, 1.0)
    assert _told(few).endswith("rests on 31% of the texture")


def test_the_report_names_its_units_and_holds_no_made_up_figure() -> None:
    flat = torch.full((HEIGHT, WIDTH, 3), 0.25)
    found = _compare(_photo(), torch.stack([_moved(2.5, -1.0), flat]), aligned=True)
    report = to_json(found)
    assert report.startswith("{\n  ")
    assert "NaN" not in report
    told = json.loads(report)
    assert (told["before"], told["after"]) == ("240x160", "240x160")
    assert (told["outside_mask"], told["aligned"]) == (False, True)
    moved, lost = told["pictures"]
    assert (moved["shift_x_px"], moved["shift_y_px"]) == pytest.approx((2.5, -1), abs=0.02)
    assert moved["scale"] == pytest.approx(1, abs=1e-4)
    assert moved["not_measured"] is None
    assert moved["share_of_texture_that_agrees"] == 1
    assert moved["share_of_picture_compared"] == pytest.approx(0.94, abs=0.04)
    assert (lost["shift_x_px"], lost["shift_y_px"], lost["scale"]) == (None, None, None)
    assert "too little" in lost["not_measured"]
    changes = [lost[f"{name}_change_of_255"] for name in ("red", "green", "blue")]
    expected = 255 * (0.25 - _photo().mean(dim=(0, 1), dtype=torch.float64))
    assert changes == pytest.approx(expected.tolist(), abs=0.01)
    assert lost["delta_e_76"] > 5
    assert not re.search(r"\d\.\d{7}", report)
