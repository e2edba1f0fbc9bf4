"""Seconds per edit as bars, one picture for all races."""

from __future__ import annotations

import statistics
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.results import Cell, Results

OURS, OTHERS = "#d9480f", "#868e96"
"""Colours of bars."""


def draw(results: Results, file: Path) -> None:
    """Raises ``ImportError`` where matplotlib is missing."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    groups = [
        (title, list(cells))
        for title, cells in groupby(
            (cell for cell in results.cells if cell.runs), lambda cell: cell.title
        )
    ]
    if not groups:
        return
    height = sum(1 + 0.34 * len(cells) for _, cells in groups)
    figure, axes = pyplot.subplots(
        len(groups),
        figsize=(9, height),
        squeeze=False,
        height_ratios=[len(cells) + 2 for _, cells in groups],
    )
    for axis, (title, cells) in zip(axes[:, 0], groups, strict=True):
        _bars(axis, title, cells, results.operations_per_s)
    figure.suptitle(f"{results.title}\n{results.environment['device']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _bars(axis: Any, title: str, cells: list[Cell], rate: float) -> None:
    medians = [statistics.median(cell.edit_s) for cell in cells]
    below = [middle - min(cell.edit_s) for middle, cell in zip(medians, cells, strict=True)]
    above = [max(cell.edit_s) - middle for middle, cell in zip(medians, cells, strict=True)]
    colours = [OURS if cell.contestant.startswith("ours") else OTHERS for cell in cells]
    names = [f"{cell.contestant}, {cell.precision}" for cell in cells]
    axis.barh(names, medians, xerr=[below, above], color=colours, height=0.6)
    axis.axvline(cells[0].edit_operations / rate, color="black", linestyle=":", linewidth=1)
    axis.invert_yaxis()
    axis.set_title(f"{title}: seconds per edit (dotted: floor)", fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
