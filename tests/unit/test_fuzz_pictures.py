"""Whatever file comes in the place of a picture: the picture as a viewer shows it, or an error."""

from __future__ import annotations

import io
import random
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFile, ImageOps

from firered_edit.pipeline import images
from firered_edit.pipeline.errors import MAX_LENGTH, InputError, ResultError
from firered_edit.pipeline.geometry import Size
from firered_edit.pipeline.images import Pixels, Reference
from support.fal_artist import Scenario, meet
from support.fal_mishaps import rewriting
from support.fal_trials import Trial, small_edit
from support.fuzz_pictures import (
    bomb,
    damaged,
    declared,
    deep_png,
    files,
    gradient,
    no_pictures,
    saved,
    text_bomb,
    turned,
)

PIXELS = gradient(48, 32)
FILES = files(PIXELS)
NO_PICTURES = no_pictures()
DAMAGED = 4000
MEBIBYTE = 1024 * 1024

PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


# As a viewer shows it ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_picture(name: str) -> None:
    shown = images.decode(FILES[name])
    assert (shown.dtype, shown.shape) == (np.uint8, PIXELS.shape)
    assert np.abs(shown.astype(int) - PIXELS).max() <= (6 if "jpeg" in name else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_held_as_its_file_says(kind: str, orientation: int) -> None:
    lying = Image.fromarray(PIXELS)
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {"lossless": True}
    data = saved(lying, kind, exif=turned(orientation), **options)
    with Image.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert (images.decode(data) == upright).all()
    assert upright.shape[:2] == ((48, 32) if orientation > 4 else (32, 48))


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "PA", "RGBA"])
def test_other_modes_look_as_pillow_converts_them(mode: str) -> None:
    picture = Image.fromarray(PIXELS).convert("P" if mode == "PA" else mode)
    options = {"transparency": 3} if mode == "PA" else {}
    data = saved(picture, "PNG", **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert (images.decode(data) == expected).all()


def test_sixteen_bits_of_grey_are_not_cut_off() -> None:
    """Everything above 255 of 65535 came out white."""
    grey = np.linspace(0, 65535, 48 * 32).reshape(32, 48)
    shown = images.decode(saved(Image.fromarray(grey.astype(np.uint16)), "PNG"))
    assert shown.shape == (32, 48, 3)
    assert np.abs(shown[..., 0] - grey / 257).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (20000, 1)], ids=str)
def test_sizes_nobody_asks_for(size: tuple[int, int]) -> None:
    pixels = gradient(*size)
    assert (images.decode(images.encode_png(pixels)) == pixels).all()
    assert images.decode(images.encode_jpeg(pixels)).shape == pixels.shape


# An error ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused(name: str) -> None:
    _is_refused(NO_PICTURES[name])


def _is_refused(data: bytes) -> None:
    with pytest.raises(ResultError) as caught:
        images.decode(data)
    assert len(str(caught.value)) <= MAX_LENGTH
    assert str(caught.value).endswith(caught.value.remedy)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_what_is_cut_short_is_refused(
    name: str, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another pack has told Pillow to make up for what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = FILES[name]
    for kept in (len(data) // 10, len(data) // 2, len(data) - 20):
        _is_refused(data[:kept])


@pytest.mark.parametrize("place", [-30, -60, -90])
def test_a_png_damaged_in_its_last_rows_is_refused(place: int) -> None:
    """Pillow does not look at the checksums of pixels, and shows whatever they are."""
    data = bytearray(images.encode_png(PIXELS))
    data[place] ^= 0xFF
    _is_refused(bytes(data))


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (8192, 8193), (2**31 - 1, 1)])
@pytest.mark.parametrize("strict", [False, True])
def test_a_huge_size_is_refused_before_it_takes_memory(size: tuple[int, int], strict: bool) -> None:
    with warnings.catch_warnings(), _at_most(16 * MEBIBYTE):
        warnings.simplefilter("error" if strict else "ignore")
        _is_refused(declared(*size))


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Python takes no more than ``size`` bytes inside."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size


def test_pixels_that_pack_well_are_bounded_by_their_size() -> None:
    data = bomb(3000, 3000)
    assert len(data) < 3000 * 3000 * 3 / 100
    assert images.decode(data).shape == (3000, 3000, 3)


def test_a_note_of_many_megabytes_is_not_unpacked() -> None:
    data = text_bomb(PIXELS)
    with _at_most(8 * MEBIBYTE):
        _is_refused(data)


def test_damaged_files_give_a_picture_or_an_error() -> None:
    """No other exception, whatever the damage; with true checksums, Pillow itself is asked."""
    rng = random.Random(8)
    names = list(FILES)
    readable = 0
    for _ in range(DAMAGED):
        try:
            shown = images.decode(damaged(FILES[rng.choice(names)], rng))
        except ResultError:
            continue
        assert (shown.dtype, shown.ndim, shown.shape[2]) == (np.uint8, 3, 3)
        readable += 1
    assert 0 < readable < DAMAGED / 2


# Through the engine -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FILES if "jpeg" not in name])
def test_an_edit_shows_it(name: str, tmp_path: Path) -> None:
    def convert(reply: Any) -> Any:
        with Image.open(io.BytesIO(reply.body)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        return replace(reply, body=files(pixels)[name])

    found = meet(Scenario(name, rewriting("get", convert), ""), tmp_path / "data")
    assert (found.outcomes, found.broken) == ("picture", [])


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (96, 64), (4000, 3)], ids=str)
def test_an_edit_has_the_size_that_was_asked_for(size: tuple[int, int], tmp_path: Path) -> None:
    """fal answers in another size, and says so: it is refitted, never handed on as it is."""

    def refitted(trial: Trial) -> None:
        trial.server.runner = lambda _, pictures: [pictures[0].resize(size)]

    found = meet(Scenario("", refitted, "", unusable=True), tmp_path / "data")
    assert found.outcomes.startswith("another picture")
    assert _asked_size_is_kept(tmp_path / "data", size)


def _asked_size_is_kept(folder: Path, size: tuple[int, int]) -> bool:
    from firered_edit.pipeline.fal.backlog import Backlog

    keys = [job.key for job in Backlog(folder).waiting()]
    wanted = small_edit().references[0].size
    return all(
        Size.of(picture.shape) == wanted
        for key in keys
        for picture in Backlog(folder).pictures(key)
    )


# Properties of the pure functions -----------------------------------------------------------------


@given(PICTURES)
def test_png_keeps_every_pixel(pixels: Pixels) -> None:
    assert (images.decode(images.encode_png(pixels)) == pixels).all()


@given(PICTURES)
def test_jpeg_keeps_the_size(pixels: Pixels) -> None:
    assert images.decode(images.encode_jpeg(pixels)).shape == pixels.shape


@given(PICTURES)
def test_a_picture_survives_the_way_through_a_tensor(pixels: Pixels) -> None:
    tensor = images.to_tensor(pixels)
    assert (tensor.dtype, tensor.shape) == (torch.float32, pixels.shape)
    assert (images.to_uint8("image_1", tensor) == pixels).all()


@given(st.lists(st.floats(width=32), min_size=3, max_size=30))
def test_any_number_becomes_a_pixel_or_an_error(values: list[float]) -> None:
    picture = torch.tensor(values).reshape(1, -1, 1).expand(-1, -1, 3)
    if not all(map(np.isfinite, values)):
        with pytest.raises(InputError, match="NaN or infinite"):
            images.to_uint8("image_1", picture)
        return
    found = images.to_uint8("image_1", picture)[0, :, 0]
    expected = [round(255 * min(max(value, 0.0), 1.0)) for value in values]
    assert np.abs(found.astype(int) - expected).max() <= 1


@given(arrays.arrays(np.float32, (3, 5, 4), elements=st.floats(0, 1, width=32)))
def test_what_is_laid_over_white_is_no_darker(pixels: np.ndarray[Any, Any]) -> None:
    picture = torch.from_numpy(pixels)
    over = images.over_white(picture)
    assert over.shape == (3, 5, 3)
    assert (over >= picture[..., :3] - 1e-6).all()
    assert (over <= 1).all()
    clear = picture[..., 3] == 0
    assert (over[clear] == 1).all()
    assert images.is_transparent(picture) == bool((picture[..., 3] < 1).any())


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 6))
def test_a_batch_is_four_dimensions_or_an_error(b: int, h: int, w: int, c: int) -> None:
    values = torch.zeros(b, h, w, c)
    if c in (1, 3, 4) and b * h * w:
        assert images.batch_of("image_1", values).shape == values.shape
        assert images.batch_of("image_1", values[0]).shape == (1, h, w, c)
        return
    with pytest.raises(InputError, match="image_1 is not a picture"):
        images.batch_of("image_1", values)


@given(st.lists(st.integers(1, 4), max_size=8), st.integers(1, 12))
def test_references_are_counted_over_all_sockets(batches: list[int], limit: int) -> None:
    sockets = {f"image_{n}": torch.full((size, 2, 2, 3), n / 10) for n, size in enumerate(batches)}
    if sum(batches) > limit:
        with pytest.raises(InputError, match=f"{sum(batches)} pictures are connected"):
            images.references_from(sockets, limit)
        return
    found = images.references_from(sockets, limit)
    numbers = [n for n, size in enumerate(batches) for _ in range(size)]
    assert [each.pixels[0, 0, 0] for each in found] == [round(25.5 * n) for n in numbers]


@given(st.lists(st.booleans(), max_size=10))
def test_a_notice_for_each_that_was_transparent(transparent: list[bool]) -> None:
    references = [Reference(gradient(2, 2), had_alpha=each) for each in transparent]
    notices = images.alpha_notices(references)
    numbers = [int(notice.split()[1]) for notice in notices]
    assert numbers == [number for number, each in enumerate(transparent, 1) if each]


@given(st.floats(-1, 2, width=32), st.booleans())
def test_only_what_is_seen_is_shown(value: float, broken: bool) -> None:
    picture = torch.full((2, 2, 3), value)
    if broken:
        picture[1, 1, 1] = float("nan")
    if broken or value <= 0:
        with pytest.raises(ResultError):
            images.check_shown(picture)
    else:
        images.check_shown(picture)


def test_deep_colour_is_what_the_test_says() -> None:
    with Image.open(io.BytesIO(deep_png(PIXELS))) as opened:
        assert (opened.size, opened.mode) == ((48, 32), "RGB")


def test_a_value_far_above_one_is_white() -> None:
    """It overflowed, with a warning in ComfyUI's log."""
    assert (images.to_uint8("image_1", torch.full((1, 1, 3), 1e38)) == 255).all()
