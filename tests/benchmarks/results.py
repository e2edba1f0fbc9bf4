"""What was measured: one cell for a contestant on a kind of edit, and all of them in a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.scale import Kind
from benchmarks.task import Clock, Precision

STOCK = "stock diffusers"


@dataclass(frozen=True)
class Run:
    """Seconds of one edit, and the most memory it took beside the weights.

    A step's time is that from its predecessor's end to its own: of the first it is unknown, and
    belongs to what came before.
    """

    total_s: float
    steps_s: list[float]
    peak_bytes: int | None

    @property
    def step_s(self) -> float:
        return statistics.median(self.steps_s)

    def edit_s(self, steps: int) -> float:
        """Of an edit in ``steps``, at this run's time for a step where it took fewer."""
        return self.total_s + (steps - len(self.steps_s) - 1) * self.step_s


def run_of(clock: Clock, peak_bytes: int | None) -> Run:
    pairs = zip(clock.steps[1:], clock.steps[:-1], strict=True)
    return Run(clock.ended - clock.began, [later - sooner for later, sooner in pairs], peak_bytes)


@dataclass
class Cell:
    """A contestant on one kind of edit. ``said`` is its own word on how it went."""

    contestant: str
    precision: Precision
    references: int
    kind: Kind
    steps: int
    steps_run: int
    step_operations: int
    edit_operations: int
    weight_bytes: int = 0
    first_s: float | None = None
    runs: list[Run] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def title(self) -> str:
        """The edit. A proxy takes fewer steps than the kind is named for."""
        plural = "s" if self.references > 1 else ""
        return (
            f"{self.references} reference{plural}, {self.kind.split(', ')[1]}, {self.steps} steps"
        )

    @property
    def step_s(self) -> list[float]:
        return [run.step_s for run in self.runs]

    @property
    def edit_s(self) -> list[float]:
        return [run.edit_s(self.steps) for run in self.runs]

    @property
    def peak_bytes(self) -> int | None:
        """With the weights that the contestant itself needs, whoever else holds them too."""
        peaks = [run.peak_bytes for run in self.runs if run.peak_bytes is not None]
        return self.weight_bytes + max(peaks) if peaks else None

    def as_kind(self, kind: Kind, steps: int, edit_operations: int) -> Cell:
        """The same runs as an edit of another number of steps."""
        return replace(self, first_s=None, kind=kind, steps=steps, edit_operations=edit_operations)


def of_stock(own: Sequence[float], stock: Sequence[float]) -> float | None:
    """The share of the stock pipeline's figures, each compared with the one taken beside it."""
    pairs = [mine / theirs for mine, theirs in zip(own, stock, strict=False)]
    return statistics.median(pairs) if pairs else None


@dataclass
class Results:
    """Everything of one call.

    ``absent`` tells why a contestant did not take part; ``tables`` are those beside the races, by
    title.
    """

    title: str
    environment: dict[str, Any]
    operations_per_s: float
    cells: list[Cell] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def stock_of(self, cell: Cell) -> Cell | None:
        """The stock pipeline on the same edit, in the same race."""
        found = [
            other
            for other in self.cells
            if (other.contestant, other.references, other.kind)
            == (STOCK, cell.references, cell.kind)
        ]
        return found[0] if found else None

    def write_json(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
