"""Results as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from benchmarks.results import Cell, Results, of_stock

GIB = 2**30

HEAD = (
    "contestant",
    "step s",
    "of stock",
    "edit s",
    "of stock",
    "of floor",
    "peak GB",
    "of stock",
    "first edit s",
    "remarks",
)


def markdown(results: Results) -> str:
    """Everything, the headline first."""
    parts = [f"# {results.title}", _environment(results), *_races(results)]
    parts += [_table(title, rows) for title, rows in results.tables.items()]
    notes = [*_unrun(results), *results.notes]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def _environment(results: Results) -> str:
    rate = results.operations_per_s / 1e12
    known = ", ".join(f"{key} {value}" for key, value in results.environment.items())
    return f"{known}. Measured bf16 matrix rate: {rate:.3g} TFLOP/s."


def _races(results: Results) -> Iterator[str]:
    def race(cell: Cell) -> tuple[int, str]:
        return cell.references, cell.kind

    for _, cells in groupby(results.cells, race):
        group = list(cells)
        if not any(cell.runs for cell in group):
            continue
        title = group[0].title
        rows = [_row(cell, results) for cell in group]
        rows += [[name, *[""] * (len(HEAD) - 2), why] for name, why in results.absent.items()]
        lines = [f"## {title}", "", _floors(group[0], results), "", _line(HEAD)]
        yield "\n".join([*lines, _rule(HEAD), *map(_line, rows)])


def _unrun(results: Results) -> Iterator[str]:
    """Races for which there was no time at all."""
    titles = {cell.title: 0 for cell in results.cells}
    for cell in results.cells:
        titles[cell.title] += len(cell.runs)
    yield from (f"not run, no time left: {title}" for title, runs in titles.items() if not runs)


def _row(cell: Cell, results: Results) -> list[str]:
    name = f"{cell.contestant}, {cell.precision}"
    first = "" if cell.first_s is None else _seconds(cell.first_s)
    if not cell.runs:
        return [name, *[""] * 7, first, cell.problem]
    stock = results.stock_of(cell)
    floor = _floor_s(cell, results) / statistics.median(cell.edit_s)
    return [
        name,
        _spread(cell.step_s),
        _ratio(cell, stock, lambda each: each.step_s),
        _spread(cell.edit_s),
        _ratio(cell, stock, lambda each: each.edit_s),
        f"{floor:.0%}",
        "n/a" if cell.peak_bytes is None else f"{cell.peak_bytes / GIB:.2f}",
        _ratio(cell, stock, lambda each: [each.peak_bytes] if each.peak_bytes else []),
        first,
        _remarks(cell),
    ]


def _floors(cell: Cell, results: Results) -> str:
    step = cell.step_operations / results.operations_per_s
    edit = _floor_s(cell, results)
    return f"Floor of a step: {_seconds(step)} s, of an edit: {_seconds(edit)} s."


def _floor_s(cell: Cell, results: Results) -> float:
    return cell.edit_operations / results.operations_per_s


def _remarks(cell: Cell) -> str:
    said = [str(cell.said[key]) for key in ("kernels", "approximation") if key in cell.said]
    if cell.steps_run < cell.steps:
        said.append(f"{cell.steps_run} steps run, the rest extrapolated")
    return "; ".join([*said, *([cell.problem] if cell.problem else [])])


def _ratio(cell: Cell, stock: Cell | None, figures: Callable[[Cell], Sequence[float]]) -> str:
    found = None if stock is None else of_stock(figures(cell), figures(stock))
    return "" if found is None else f"{found:.2f}"


def _spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    middle = _seconds(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({_seconds(min(values))} to {_seconds(max(values))})"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    head = list(rows[0])
    lines = [_line([str(row[key]) for key in head]) for row in rows]
    return "\n".join([f"## {title}", "", _line(head), _rule(head), *lines])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(cells: Sequence[str]) -> str:
    return _line(["---"] * len(cells))
