"""Composites of many references: how much is white, and what the smallest picture gets.

Two rules stand side by side on the same random sets, the first picture alone in both. FireRed's own
agent scales the pictures of a composite alike and lays them in rows; ours cuts the composite into
the pictures' shapes. The sets are once of one megapixel each, once of 0.25 to 12, with common
aspects from 9:16 to 16:9. The smallest picture is the one of fewest pixels in the two composites,
its median over the sets in thousands of pixels; white space is the mean share.

Times are medians, in milliseconds: planning is all that decides where a picture goes, composing
scales the pixels of one set of mixed sizes.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import MEGAPIXEL, Size  # noqa: E402
from firered_edit.pipeline.stitching import COUNT, plan  # noqa: E402
from firered_edit.pipeline.stitching.stitch import compose  # noqa: E402

ASPECTS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
ROUNDS = 5
MIXED = (0.25, 12.0)


@dataclass(frozen=True)
class Outcome:
    """White space as a share of the composites, and the smallest picture's pixels."""

    white: float
    smallest: float


def random_sizes(rng: random.Random, count: int, megapixels: tuple[float, float]) -> list[Size]:
    sizes = []
    for _ in range(count):
        area = MEGAPIXEL * math.exp(rng.uniform(*map(math.log, megapixels)))
        aspect = rng.choice(ASPECTS) ** rng.choice((-1, 1))
        sizes.append(Size(round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))))
    return sizes


def by_the_agent(sizes: Sequence[Size]) -> Outcome:
    """The largest first, each to the group of the smaller area so far; then rows."""
    groups: tuple[list[Size], list[Size]] = ([], [])
    for size in sorted(sizes[1:], key=lambda size: -size.area):
        min(groups, key=lambda group: sum(each.area for each in group)).append(size)
    canvases, smallest = 0.0, math.inf
    for group in groups:
        area = sum(size.area for size in group)
        canvas = rows_area(group)
        canvases += canvas / area
        # At one common scale the pictures sum to a megapixel; their canvas is shrunk to it again.
        smallest = min(smallest, min(size.area for size in group) * MEGAPIXEL / canvas)
    return Outcome(1 - len(groups) / canvases, smallest)


def rows_area(group: Sequence[Size]) -> float:
    """Of the canvas of the least waste: the widest first, each into the shortest row so far."""
    found = []
    for count in range(1, len(group) + 1):
        rows: list[list[Size]] = [[] for _ in range(count)]
        for size in sorted(group, key=lambda size: -size.width):
            min(rows, key=lambda row: sum(each.width for each in row)).append(size)
        width = max(sum(size.width for size in row) for row in rows)
        height = sum(max(size.height for size in row) for row in rows)
        found.append((not 0.5 <= width / height <= 2, width * height))
    return min(found)[1]


def by_us(sizes: Sequence[Size]) -> Outcome:
    composites = plan(sizes, background=True)[1:]
    tiles = [tile.box.size.area for composite in composites for tile in composite.tiles]
    return Outcome(1 - sum(tiles) / sum(each.size.area for each in composites), min(tiles))


def planning_ms(sets: Sequence[Sequence[Size]], background: bool) -> float:
    times = []
    for sizes in sets:
        started = perf_counter()
        plan(sizes, background)
        times.append(1000 * (perf_counter() - started))
    return statistics.median(times)


def composing_ms(sizes: Sequence[Size]) -> float:
    pictures = [np.full((size.height, size.width, 3), 128, np.uint8) for size in sizes]
    composites, times = plan(sizes, background=True), []
    for _ in range(ROUNDS):
        started = perf_counter()
        for composite in composites:
            compose(composite, pictures)
        times.append(1000 * (perf_counter() - started))
    return statistics.median(times)


def cells(sets: Sequence[Sequence[Size]]) -> list[str]:
    agent, ours = ([rule(sizes) for sizes in sets] for rule in (by_the_agent, by_us))
    whites = [statistics.mean(each.white for each in outcomes) for outcomes in (agent, ours)]
    least = [statistics.median(each.smallest for each in outcomes) for outcomes in (agent, ours)]
    return [
        *(f"{100 * white:.1f} %" for white in whites),
        *(f"{each / 1000:.0f}" for each in least),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=60, help="random sets for each count")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    each = ["agent white", "ours", "agent smallest", "ours"]
    head = ["n", *(f"{kind}: {name}" for kind in ("same", "mixed") for name in each)]
    head += ["planning", "without background", "composing"]
    write_row(head)
    write_row(["---:"] * len(head))
    for count in range(COUNT[0], COUNT[1] + 1):
        rng = random.Random(asked.seed * 100 + count)
        same, mixed = (
            [random_sizes(rng, count, megapixels) for _ in range(asked.sets)]
            for megapixels in ((1.0, 1.0), MIXED)
        )
        both = list(chain(same, mixed))
        times = [planning_ms(both, True), planning_ms(both, False), composing_ms(mixed[0])]
        write_row([str(count), *cells(same), *cells(mixed), *(f"{time:.1f}" for time in times)])
    return 0


def write_row(cells: Sequence[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    raise SystemExit(main())
