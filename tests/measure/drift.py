"""How exactly drift is measured, and how long it takes.

Photographs are moved by random shifts of up to 40 pixels and scales of 0.95 to 1.05, by a sum of
cosines and not by the filters that measure; then they are changed as an edit changes them. Errors
are in pixels, and in parts of the scale; `told` counts the pairs for which figures were given: none
should be where all is replaced.

Times are medians of the processor's milliseconds on one thread, for two parts of a mosaic that lie
some pixels apart.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image
from skimage import data

from support.pack import load_pack
from support.photos import photograph
from support.warps import Picture, warped

load_pack()

from firered_edit.pipeline.drift import align, measure  # noqa: E402 - needs the pack

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
SIDE = (300, 400)
SIZES = ((64, 64), (256, 256), (512, 512), (1024, 1024), (2000, 1500), (4000, 3000))
Change = Callable[[Picture], Picture]
Result = TypeVar("Result")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=40, help="pairs of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each time")
    chosen = parser.parse_args()
    for line in [*_errors(chosen.count), "", *_times(chosen.rounds)]:
        sys.stdout.write(line + "\n")
    return 0


def _errors(count: int) -> Iterator[str]:
    yield f"{'':24}  told     px median   p95     max     scale median  p95      max"
    for name, change in CHANGES.items():
        rng = np.random.default_rng(11)
        pixels, scales = [], []
        for index in range(count):
            shift, scale = tuple(rng.uniform(-40, 40, 2)), rng.uniform(0.95, 1.05)
            before = _photo(index)
            edited = change(warped(before, shift, scale))
            drift = measure(before, edited, _middle(0.25) if name == "the same, masked" else None)
            if not drift.unmeasured:
                pixels.append(max(abs(a - b) for a, b in zip(drift.shift, shift, strict=True)))
                scales.append(abs(drift.scale - scale))
        yield f"{name:24}  {len(pixels):3}/{count:<3}  {_row(pixels, 4)}   {_row(scales, 6)}"


def _row(errors: list[float], digits: int) -> str:
    if not errors:
        return ""
    figures = (np.median(errors), np.percentile(errors, 95), max(errors))
    return "  ".join(f"{figure:{digits + 3}.{digits}f}" for figure in figures)


def _photo(index: int) -> Picture:
    """A part of a photograph, another one for each index."""
    whole = getattr(data, PHOTOS[index % len(PHOTOS)])()
    height, width = SIDE
    top = index * 53 % (whole.shape[0] - height + 1)
    left = index * 31 % (whole.shape[1] - width + 1)
    return whole[top : top + height, left : left + width].astype(np.float32) / 255


def _pixels(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture * 255).astype(np.uint8))


def _read(picture: Image.Image) -> Picture:
    return np.asarray(picture).astype(np.float32) / 255


def _jpeg(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    _pixels(picture).save(buffer, "JPEG", quality=90)
    return _read(Image.open(buffer))


def _half(picture: Picture) -> Picture:
    whole = _pixels(picture)
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS)
    return _read(half.resize(whole.size, Image.Resampling.LANCZOS))


def _noisy(picture: Picture) -> Picture:
    noise = np.random.default_rng(4).normal(0, 5 / 255, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _recoloured(picture: Picture) -> Picture:
    return picture * np.float32([0.9, 1.05, 0.8]) + np.float32([0.04, -0.02, 0.1])


def _relit(picture: Picture) -> Picture:
    light = np.linspace(0.4, 1.2, picture.shape[1], dtype=np.float32)
    return np.clip(picture * light[:, None], 0, 1)


def _at_night(picture: Picture) -> Picture:
    return picture**2 * np.float32([0.3, 0.35, 0.5])


def _middle(share: float) -> np.ndarray:
    height, width = SIDE
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    top, left = (height - tall) // 2, (width - wide) // 2
    mask = np.zeros(SIDE, np.float32)
    mask[top : top + tall, left : left + wide] = 1
    return mask


def _replaced(share: float) -> Change:
    other = _read(Image.fromarray(data.hubble_deep_field()[:300, :400]))
    return lambda picture: np.where(_middle(share)[..., None] > 0, other, picture)


CHANGES: dict[str, Change] = {
    "nothing else": lambda picture: picture,
    "JPEG, quality 90": _jpeg,
    "half the resolution": _half,
    "noise of 5 of 255": _noisy,
    "other colours": _recoloured,
    "light from one side": _relit,
    "day to night": _at_night,
    "a quarter replaced": _replaced(0.25),
    "the same, masked": _replaced(0.25),
    "half replaced": _replaced(0.5),
    "all replaced": _replaced(1.0),
}


def _times(rounds: int) -> Iterator[str]:
    yield "size         measure ms   align ms   off by px"
    for width, height in SIZES:
        right, down = min(37, width // 8), min(21, height // 8)
        mosaic = photograph(width + right, height + down).astype(np.float32) / 255
        before, after = mosaic[down:, right:], mosaic[:height, :width]
        drift, measuring = _timed(measure, before, after, rounds=rounds)
        _, aligning = _timed(align, after, drift, rounds=rounds)
        off = max(abs(drift.shift[0] - right), abs(drift.shift[1] - down))
        yield f"{width:4}x{height:<4}  {measuring:10.0f}  {aligning:10.0f}   {off:9.4f}"


def _timed(work: Callable[..., Result], *inputs: Any, rounds: int) -> tuple[Result, float]:
    times = []
    for _ in range(rounds):
        start = process_time()
        result = work(*inputs)
        times.append(1000 * (process_time() - start))
    return result, statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
