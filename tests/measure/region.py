"""Editing a region: what it takes, and what of the picture survives.

Times are medians in milliseconds on one thread, of a picture of 4000 x 3000 pixels and a round mask
that covers a share of it. The photograph is laid out as mirror images, not enlarged, so that it
keeps its finest detail.

An identity edit is the crop as 8 bits, pasted back: its greatest error is in steps of 8 bits, its
PSNR that of the mask's box. Above the working area (scale below 1) detail is lost by intent.

Fine detail, root mean square of 255: a crop that is enlarged and shrunk again has lost `lost`. If
that were always added back, as much of the old picture would be a ghost in what replaced it. Ours
leaves `ghost` of it in another photograph that took its place, and misses `missed` where the edit
kept the picture under a noise of 3 of 255.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from skimage import data

from support.blobs import disc
from support.pack import load_pack
from support.photos import photograph

load_pack()

from firered_edit.pipeline.geometry import Size  # noqa: E402 - needs the pack
from firered_edit.pipeline.images import to_tensor, to_uint8  # noqa: E402
from firered_edit.pipeline.region import Region, crop_region, paste_region  # noqa: E402
from firered_edit.pipeline.region.resampling import resample  # noqa: E402

WIDTH, HEIGHT = 4000, 3000
SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0)
SCALES = (4.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.8, 0.6, 0.4, 0.3)
FEATHERS = (0, 4, 8, 16, 32, 64)
DRIFTS = 24


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each time")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    picture = to_tensor(photograph(WIDTH, HEIGHT))
    for table in (lambda: _times(picture, rounds), lambda: _identities(picture), _seams, _colours):
        sys.stdout.write(table() + "\n\n")
    return 0


def _times(picture: torch.Tensor, rounds: int) -> str:
    lines = ["mask of 12 MP   scale   crop ms  paste ms   both ms  both ms of the processor"]
    for share in SHARES:
        mask = disc(WIDTH, HEIGHT, _radius(share), (WIDTH / 2, HEIGHT / 2))[None]
        figures = [_one_time(picture[None], mask) for _ in range(rounds)]
        crop, paste, both, processor = (
            1000 * statistics.median(column) for column in zip(*figures, strict=True)
        )
        scale = crop_region(picture, mask).frame.scale
        lines.append(
            f"{float(mask.mean()):>14.1%}  {scale:6.2f}  {crop:8.0f}  {paste:8.0f}  {both:8.0f}  "
            f"{processor:24.0f}"
        )
    return "\n".join(lines)


def _radius(share: float) -> float:
    """Of a disc that covers ``share``; at 1 it reaches the corners."""
    if share == 1.0:
        return float(WIDTH)
    return float(np.sqrt(share * WIDTH * HEIGHT / np.pi))


def _one_time(picture: torch.Tensor, mask: torch.Tensor) -> tuple[float, float, float, float]:
    start, worked = perf_counter(), process_time()
    region = crop_region(picture, mask)
    region.mask.laid_on(region.size)
    cut = perf_counter()
    paste_region(region.crop[None], region)
    end = perf_counter()
    return cut - start, end - cut, end - start, process_time() - worked


def _identities(picture: torch.Tensor) -> str:
    lines = ["   box    crop   scale  greatest error   PSNR dB    lost   ghost  missed"]
    for wanted in SCALES:
        side = round(1024 / wanted / 1.5)
        mask = torch.zeros(HEIGHT, WIDTH)
        top, left = HEIGHT // 2 - side // 2, 300
        mask[top : top + side, left : left + side] = 1
        region = crop_region(picture, mask, 0, 0)
        same = paste_region(_in_bytes(region.crop), region).images[0]
        error, psnr = _difference(same, picture, region)
        detail = _fine_detail(region) if region.frame.scale > 1 else ""
        lines.append(
            f"{region.frame.width:6.0f}  {region.frame.size.width:6}  {region.frame.scale:6.2f}  "
            f"{error:14.2f}  {psnr:8.1f}{detail}"
        )
    return "\n".join(lines)


def _in_bytes(picture: torch.Tensor) -> torch.Tensor:
    return to_tensor(to_uint8("picture", picture))


def _difference(found: torch.Tensor, source: torch.Tensor, region: Region) -> tuple[float, float]:
    """The greatest difference anywhere, of 255, and the PSNR within the mask's box."""
    inside = region.mask.bounds.slices
    mean = float(((found[inside] - source[inside]) ** 2).mean())
    psnr = -10 * np.log10(mean) if mean else np.inf
    return float((found - source).abs().max()) * 255, psnr


def _fine_detail(region: Region) -> str:
    source = region.source[region.mask.bounds.slices]
    lost = source - _shrunk(region.crop, region)
    other = to_tensor(photograph(WIDTH, HEIGHT)[-region.frame.size.height :])
    other = other[:, -region.frame.size.width :].flip(0)
    ghost = _pasted(other, region) - _shrunk(other, region).clamp(0, 1)
    noise = 3 / 255 * torch.randn(region.crop.shape, generator=torch.Generator().manual_seed(1))
    # The mean of both is what is left without the noise itself.
    both = _pasted(region.crop + noise, region) + _pasted(region.crop - noise, region)
    return "".join(f"  {_rms(values):6.2f}" for values in (lost, ghost, both / 2 - source))


def _pasted(edited: torch.Tensor, region: Region) -> torch.Tensor:
    pasted = paste_region(edited, region, match_colour=False)
    return pasted.images[0][region.mask.bounds.slices]


def _shrunk(picture: torch.Tensor, region: Region) -> torch.Tensor:
    """Where the mask is, ``picture`` at the scale of the source."""
    inside = region.frame.inside(region.mask.bounds)
    scale = 1 / region.frame.scale
    return resample(picture, (scale, scale), Size(inside.right, inside.bottom))[inside.slices]


def _rms(values: torch.Tensor) -> float:
    return float((values**2).mean().sqrt()) * 255


def _seams() -> str:
    lines = ["feather   greatest step between neighbours, of 255, for an edit 8 brighter"]
    flat = torch.full((800, 800, 3), 0.5)
    for feather in FEATHERS:
        region = crop_region(flat, disc(800, 800, 90, (390, 410)), 8, feather, 1.5, 0.1)
        bright = region.crop + 8 / 255
        steps = [
            max(_step(found, 0), _step(found, 1))
            for found in (paste_region(bright, region, match).images[0] for match in (False, True))
        ]
        lines.append(f"{feather:7}   {steps[0]:.2f}, with match_colour {steps[1]:.2f}")
    return "\n".join(lines)


def _step(picture: torch.Tensor, dim: int) -> float:
    return float(picture.diff(dim=dim).abs().max()) * 255


def _colours() -> str:
    lines = [f"photo      mean error of 255 inside the mask over {DRIFTS} drifts: without, matched"]
    photos: dict[str, Callable[[], np.ndarray]] = {
        "portrait": data.astronaut,
        "cat": data.chelsea,
        "cup": data.coffee,
    }
    for name, load in photos.items():
        source = to_tensor(load())
        height, width = source.shape[:2]
        mask = disc(width, height, 0.2 * height, (0.5 * width, 0.45 * height))
        region = crop_region(source, mask, 8, 16, 1.6, 0.25)
        errors = [_drift_errors(region, seed) for seed in range(DRIFTS)]
        without, matched = np.array(errors).T
        lines.append(
            f"{name:9}  median {np.median(without):.2f}, {np.median(matched):.2f}   "
            f"most {without.max():.2f}, {matched.max():.2f}"
        )
    return "\n".join(lines)


def _drift_errors(region: Region, seed: int) -> tuple[float, float]:
    """A gain of 0.9 to 1.1 and an offset of up to 12 of 255 in each channel."""
    rng = np.random.default_rng(seed)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, 3)).float()
    offset = torch.from_numpy(rng.uniform(-12, 12, 3) / 255).float()
    drifted = (region.crop * gain + offset).clamp(0, 1)
    inside = region.mask.bounds.slices
    found = [paste_region(drifted, region, match).images[0][inside] for match in (False, True)]
    without, matched = (
        float((values - region.source[inside]).abs().mean()) * 255 for values in found
    )
    return without, matched


if __name__ == "__main__":
    raise SystemExit(main())
