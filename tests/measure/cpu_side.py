"""What pictures cost on the CPU, per megapixel, against the usual way of node packs.

Each row is one thing done two ways in the same round, on pictures of the same size: ours, and the
few lines that most packs have for it (whole pictures as floats, through Pillow and back). Not all
of it is equal: the usual way cuts fractions off instead of rounding, halves the colours of a JPEG,
resizes results in 8 bits, and matches no colours when it pastes. Times are
medians over the rounds in milliseconds per megapixel, in brackets the least and the most; `faster`
is the median of the ratios of every round. One thread, so that other work does not count.

Below stands what lies between the steps of an edit, in milliseconds per edit or step at a megapixel
and as a share of the fastest step there is: one pass in bf16 at the floor of an H200, 213 ms.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from support.blobs import disc
from support.inside import bridge
from support.pack import load_pack
from support.photos import photograph

load_pack()

from firered_edit.pipeline.canvas import place, restore  # noqa: E402 - needs the pack
from firered_edit.pipeline.geometry import MEGAPIXEL, MatchImage, Size, plan  # noqa: E402
from firered_edit.pipeline.images import (  # noqa: E402
    Pixels,
    decode,
    encode_jpeg,
    encode_png,
    to_tensor,
    to_uint8,
)
from firered_edit.pipeline.local.latents import draw_noise  # noqa: E402
from firered_edit.pipeline.region import crop_region, paste_region  # noqa: E402
from firered_edit.pipeline.stitching import plan as plan_composites  # noqa: E402
from firered_edit.pipeline.stitching.layouts import Composite  # noqa: E402
from firered_edit.pipeline.stitching.stitch import compose  # noqa: E402

FASTEST_STEP_MS = 213.0
SIDE = 1500
"""No multiple of a cell, so that canvas and picture differ as they usually do."""


@dataclass(frozen=True)
class Pair:
    """One thing, done our way and the usual way."""

    name: str
    ours: Callable[[], object]
    usual: Callable[[], object]


def usual_to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8))


def usual_to_image(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB")).astype(np.float32) / 255.0)


def usual_png(image: Tensor) -> bytes:
    return _saved(usual_to_pillow(image), "PNG")


def usual_jpeg(image: Tensor) -> bytes:
    return _saved(usual_to_pillow(image), "JPEG", quality=95)


def _saved(picture: Image.Image, form: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def usual_resize(image: Tensor, size: Size) -> Tensor:
    scaled = usual_to_pillow(image).resize((size.width, size.height), Image.Resampling.LANCZOS)
    return usual_to_image(scaled)


def usual_composite(composite: Composite, images: list[Tensor]) -> Tensor:
    """The same layout, pasted on a white canvas."""
    canvas = Image.new("RGB", (composite.size.width, composite.size.height), "white")
    for tile in composite.tiles:
        scaled = usual_resize(images[tile.number - 1], tile.box.size)
        canvas.paste(usual_to_pillow(scaled), (tile.box.left, tile.box.top))
    return usual_to_image(canvas)


def usual_paste(image: Tensor, mask: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """A crop cut out, enlarged as for an edit, shrunk and blended over the whole picture."""
    left, top, right, bottom = box
    crop = usual_resize(image[top:bottom, left:right], Size(1024, 1024))
    back = usual_resize(crop, Size(right - left, bottom - top))
    laid = image.clone()
    laid[top:bottom, left:right] = back
    grey = Image.fromarray((255 * mask).numpy().astype(np.uint8))
    soft = np.array(grey.filter(ImageFilter.GaussianBlur(8))).astype(np.float32) / 255.0
    alpha = torch.from_numpy(soft)[..., None]
    return image * (1 - alpha) + laid * alpha


def pairs() -> Iterator[Pair]:
    pixels = photograph(SIDE, SIDE)
    image = to_tensor(pixels)
    png = encode_png(pixels)
    size = Size(SIDE, SIDE)
    geometry = plan(MatchImage(), [size], 1.0)
    result = torch.rand(geometry.canvas.height, geometry.canvas.width, 3)
    yield Pair("IMAGE to bytes", lambda: to_uint8("x", image), lambda: usual_to_pillow(image))
    yield Pair(
        "bytes to IMAGE",
        lambda: to_tensor(pixels),
        lambda: usual_to_image(Image.fromarray(pixels)),
    )
    yield Pair("IMAGE to PNG", lambda: encode_png(to_uint8("x", image)), lambda: usual_png(image))
    yield Pair(
        "IMAGE to JPEG", lambda: encode_jpeg(to_uint8("x", image)), lambda: usual_jpeg(image)
    )
    yield Pair(
        "PNG to IMAGE",
        lambda: to_tensor(decode(png)),
        lambda: usual_to_image(Image.open(io.BytesIO(png))),
    )
    yield Pair(
        "IMAGE to the canvas",
        lambda: place(to_uint8("x", image), geometry.fits[0]),
        lambda: usual_resize(image, geometry.canvas),
    )
    yield Pair(
        "canvas to IMAGE, in float",
        lambda: restore(result, geometry),
        lambda: usual_resize(result, size),
    )
    yield from region_and_composites(image)


def region_and_composites(image: Tensor) -> Iterator[Pair]:
    middle, radius = SIDE / 2, SIDE / 6
    mask = disc(SIDE, SIDE, radius, (middle, middle))
    reach = int(1.5 * radius)
    box = (int(middle) - reach, int(middle) - reach, int(middle) + reach, int(middle) + reach)

    def ours() -> Tensor:
        region = crop_region(image, mask)
        return paste_region(region.crop[None], region).images

    yield Pair("crop, and paste again", ours, lambda: usual_paste(image, mask, box))
    shapes = ((900, 700), (640, 900), (800, 800), (1000, 600))
    pictures: list[Pixels] = [photograph(*shape) for shape in shapes]
    images = [to_tensor(each) for each in pictures]
    composites = plan_composites([Size(*shape) for shape in shapes], background=False)

    def stitched() -> list[Tensor]:
        given = [to_uint8("x", each) for each in images]
        return [to_tensor(compose(composite, given)) for composite in composites]

    def usual() -> list[Tensor]:
        return [usual_composite(composite, images) for composite in composites]

    yield Pair("four pictures stitched", stitched, usual)


def measure(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds per megapixel of both ways, and the ratio of each round."""
    return [_figures(pair, rounds) for pair in pairs()]


def _figures(pair: Pair, rounds: int) -> dict[str, Any]:
    pair.ours(), pair.usual()
    times = [(_ms(pair.ours), _ms(pair.usual)) for _ in range(rounds)]
    megapixels = SIDE**2 / MEGAPIXEL
    ours, usual = ([each / megapixels for each in column] for column in zip(*times, strict=True))
    ratios = [slow / fast for fast, slow in times]
    return {"name": pair.name, "ours": ours, "usual": usual, "ratio": statistics.median(ratios)}


def _ms(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return 1000 * (perf_counter() - started)


def between_steps(rounds: int) -> Iterator[tuple[str, list[float]]]:
    """What an edit does besides computing, each with its times in milliseconds."""
    canvas, cpu = Size(1024, 1024), torch.device("cpu")
    yield (
        "noise, once an edit",
        _times(lambda: draw_noise(canvas, 0, cpu, torch.bfloat16, "cpu"), rounds),
    )
    latents = torch.randn(1, 16, 1, 128, 128)
    previews = _previews()
    yield "preview made, a step", _times(lambda: previews.make(lambda: latents), rounds)
    shown = previews.make(lambda: latents)[1].resize((512, 512))
    yield "preview as JPEG, ComfyUI's own thread", _times(lambda: _saved(shown, "JPEG"), rounds)


def _times(work: Callable[[], object], rounds: int) -> list[float]:
    work()
    return [_ms(work) for _ in range(rounds)]


def _previews() -> Any:
    """As when the artist has chosen the quick kind."""
    host = bridge()
    import latent_preview

    import firered_edit.nodes.host.previews as previews

    assert host
    latent_preview.args.preview_method = latent_preview.LatentPreviewMethod.Latent2RGB
    return previews.Previews(torch.device("cpu"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(asked.rounds)
    sys.stdout.write(table(rows) + "\n")
    for name, times in between_steps(asked.rounds):
        share = statistics.median(times) / FASTEST_STEP_MS
        sys.stdout.write(f"{name}: {spread(times)} ms, {share:.1%} of the fastest step\n")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2))
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| ms per megapixel | ours | the usual way | faster |", "|---|---:|---:|---:|"]
    for row in rows:
        cells = [row["name"], spread(row["ours"]), spread(row["usual"]), f"{row['ratio']:.1f}x"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"


if __name__ == "__main__":
    raise SystemExit(main())
