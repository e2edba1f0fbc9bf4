"""What an edit does to the size and shape of a picture: ours, ComfyUI's blueprint, diffusers' rule.

The peers' formulas are those of ComfyUI 0.30.0's FireRed blueprint (scale to one megapixel, cut to
whole latent cells; the reference scaled once more to multiples of 8) and of diffusers'
QwenImageEditPlusPipeline (sides rounded to multiples of 32). Sizes are drawn with aspects from 1:2
to 2:1. The second table sends a photograph there and back, with a model that changes nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.pack import load_pack
from support.photos import photograph

load_pack()

from firered_edit.pipeline.canvas import place, restore  # noqa: E402 - needs the pack
from firered_edit.pipeline.geometry import MEGAPIXEL, MatchImage, Size, plan  # noqa: E402
from firered_edit.pipeline.images import Pixels, to_tensor  # noqa: E402

LATENT = 8
MIN_SIDE, MAX_SIDE = 256, 6000

PHOTO_SIZES = [(1024, 1024), (1280, 720), (1080, 1350), (333, 517), (1920, 1080), (3000, 2000)]


@dataclass(frozen=True)
class Outcome:
    """What a rule makes of a picture, sides in pixels and not always whole."""

    output: tuple[float, float]
    canvas: tuple[int, int]
    reference: tuple[int, int]
    seen: tuple[float, float]
    """Canvas pixels that show the whole picture; where more than the canvas, it was cut."""

    def odd(self) -> bool:
        return any(side // LATENT % 2 for side in self.canvas)

    def mismatched(self) -> bool:
        return self.canvas != self.reference

    def stretch(self, size: Size) -> float:
        ratio = self.seen[0] / self.seen[1] * size.height / size.width
        return max(ratio, 1 / ratio) - 1


def ours(size: Size) -> Outcome:
    found = plan(MatchImage(), [size], 1.0)
    canvas, grid = found.canvas, found.fits[0].grid
    return Outcome(
        (found.output.width, found.output.height),
        (canvas.width, canvas.height),
        (grid.width, grid.height),
        found.frame,
    )


def blueprint(size: Size) -> Outcome:
    scale = math.sqrt(MEGAPIXEL / size.area)
    scaled = round(size.width * scale), round(size.height * scale)
    canvas = scaled[0] // LATENT * LATENT, scaled[1] // LATENT * LATENT
    again = math.sqrt(MEGAPIXEL / (scaled[0] * scaled[1]))
    reference = (
        round(scaled[0] * again / 8) * 8,
        round(scaled[1] * again / 8) * 8,
    )
    return Outcome(canvas, canvas, reference, scaled)


def stock(size: Size) -> Outcome:
    width = math.sqrt(MEGAPIXEL * size.width / size.height)
    height = width * size.height / size.width
    canvas = round(width / 32) * 32, round(height / 32) * 32
    return Outcome(canvas, canvas, canvas, canvas)


RULES: dict[str, Callable[[Size], Outcome]] = {
    "this pack": ours,
    "ComfyUI's blueprint": blueprint,
    "diffusers' rule": stock,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sizes = list(_random_sizes(chosen.sizes, chosen.seed))
    lines = [f"{len(sizes):,} random sizes, working area 1 megapixel", _row("", _COLUMNS)]
    lines += [_figures(name, rule, sizes) for name, rule in RULES.items()]
    lines += ["", "a photograph there and back, PSNR in dB", _row("size", RULES)]
    lines += [_psnrs(Size(*size)) for size in PHOTO_SIZES]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _random_sizes(count: int, seed: int) -> Iterator[Size]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        width = int(rng.integers(MIN_SIDE, MAX_SIDE))
        aspect = math.exp(rng.uniform(-math.log(2), math.log(2)))
        yield Size(width, max(1, round(width / aspect)))


_COLUMNS = ("output is the input's size", "odd latent side", "grids differ", "stretch mean, max")


def _figures(name: str, rule: Callable[[Size], Outcome], sizes: list[Size]) -> str:
    found = [(size, rule(size)) for size in sizes]
    kept = np.mean([outcome.output == (size.width, size.height) for size, outcome in found])
    odd = np.mean([outcome.odd() for _, outcome in found])
    differ = np.mean([outcome.mismatched() for _, outcome in found])
    stretch = [outcome.stretch(size) for size, outcome in found]
    shares = [f"{share:.1%}" for share in (kept, odd, differ)]
    cells = [*shares, f"{np.mean(stretch):.2%}, {max(stretch):.2%}"]
    return _row(name, cells)


def _psnrs(size: Size) -> str:
    pixels = photograph(size.width, size.height)
    found = [_psnr(pixels, _there_and_back(name, pixels, size)) for name in RULES]
    return _row(str(size), [f"{value:.1f}" if value < math.inf else "identical" for value in found])


def _there_and_back(name: str, pixels: Pixels, size: Size) -> Pixels:
    if name == "this pack":
        found = plan(MatchImage(), [size], 1.0)
        back = restore(to_tensor(place(pixels, found.fits[0])), found)
        return np.rint(back.numpy() * 255).astype(np.uint8)
    # Neither peer comes back to the picture's own size: an artist would scale the result up.
    outcome = RULES[name](size)
    seen = tuple(round(side) for side in outcome.seen)
    there = Image.fromarray(pixels).resize(seen, Image.Resampling.LANCZOS)
    left, top = ((side - kept) // 2 for side, kept in zip(seen, outcome.canvas, strict=True))
    width, height = outcome.canvas
    cut = there.crop((left, top, left + width, top + height))
    return np.asarray(cut.resize((size.width, size.height), Image.Resampling.LANCZOS))


def _psnr(one: Pixels, other: Pixels) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def _row(first: str, cells: Iterable[str]) -> str:
    return f"{first:22}" + "".join(f"{cell:>28}" for cell in cells)


if __name__ == "__main__":
    raise SystemExit(main())
