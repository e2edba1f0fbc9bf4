"""Contestants on the same edits, one after the other, over and over: A B C A B C.

What slows a machine down for a while then slows all of them down, and their ratios stay true.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from benchmarks.floors import floor_of
from benchmarks.memory import PeakMemory
from benchmarks.results import Cell, Results, run_of
from benchmarks.scale import KINDS, Kind
from benchmarks.task import Clock, Contestant, task
from benchmarks.weights import Weights

logger = logging.getLogger(__name__)

LEAST_STEPS = 2
"""Of a single step no time is known: it would contain what comes before."""

DERIVED: dict[Kind, Kind] = {KINDS[1]: KINDS[0]}
"""Kinds of edits whose steps are those of another kind."""


@dataclass(frozen=True)
class Plan:
    """What is raced. ``steps`` replaces how many are run where the rest can be extrapolated."""

    references: Sequence[int]
    kinds: Sequence[Kind]
    repeats: int
    whole: bool
    steps: int | None
    deadline: float

    @property
    def out_of_time(self) -> bool:
        return perf_counter() > self.deadline


class Races:
    """Runs all of a plan and tells ``results`` after every race."""

    def __init__(
        self, weights: Weights, contestants: Sequence[Contestant], results: Results, plan: Plan
    ) -> None:
        self._weights = weights
        self._contestants = contestants
        self._results = results
        self._plan = plan
        self._number = 0

    def run(self, told: Callable[[], None]) -> None:
        """``told`` is called whenever there are more results."""
        for references in self._plan.references:
            for kind in self._plan.kinds:
                cells = [self._cell(each, references, kind) for each in self._contestants]
                self._race(cells)
                self._results.cells += cells
                told()

    def _race(self, cells: Sequence[Cell]) -> None:
        pairs = [
            (cell, contestant)
            for cell, contestant in zip(cells, self._contestants, strict=True)
            if not self._derive(cell, contestant)
        ]
        for cell, contestant in pairs:
            self._attempt(cell, contestant, first=True)
        for _ in range(self._plan.repeats):
            for cell, contestant in pairs:
                if not cell.problem:
                    self._attempt(cell, contestant, first=False)

    def _cell(self, contestant: Contestant, references: int, kind: Kind) -> Cell:
        scale = self._weights.scale
        steps = scale.steps[kind]
        floor = floor_of(task(scale, references, kind, steps, 0), self._weights)
        return Cell(
            contestant=contestant.name,
            precision=contestant.precision,
            references=references,
            kind=kind,
            steps=steps,
            steps_run=self._steps_run(contestant, steps),
            step_operations=floor.step.total,
            edit_operations=floor.edit(steps).total,
        )

    def _steps_run(self, contestant: Contestant, steps: int) -> int:
        if contestant.whole or self._plan.whole:
            return steps
        return self._few(steps)

    def _few(self, steps: int) -> int:
        """How many of ``steps`` tell the time of one."""
        return min(steps, max(LEAST_STEPS, self._plan.steps or self._weights.scale.sampled))

    def _derive(self, cell: Cell, contestant: Contestant) -> bool:
        """Whether the steps of ``cell`` were measured before, and are now its own."""
        source = DERIVED.get(cell.kind)
        if source is None or contestant.whole or self._plan.whole:
            return False
        for other in self._results.cells:
            key = (other.contestant, other.precision, other.references, other.kind)
            if key == (cell.contestant, cell.precision, cell.references, source):
                same = other.as_kind(cell.kind, cell.steps, cell.edit_operations)
                vars(cell).update(vars(same))
                return True
        return False

    def _attempt(self, cell: Cell, contestant: Contestant, *, first: bool) -> None:
        """One edit; what goes wrong is said in the table and ends this contestant's race."""
        if self._plan.out_of_time:
            cell.problem = "" if cell.runs else "not run: no time left"
            return
        try:
            self._one(cell, contestant, first=first)
        except torch.OutOfMemoryError:
            cell.problem = "out of memory"
            _collect()
        except Exception as error:  # the others race on, whatever befell this one
            logger.warning("%s failed", contestant.name, exc_info=error)
            cell.problem = f"failed: {type(error).__name__}: {error}"[:160]

    def _one(self, cell: Cell, contestant: Contestant, *, first: bool) -> None:
        self._number += 1
        steps = self._few(cell.steps) if first else cell.steps_run
        asked = task(self._weights.scale, cell.references, cell.kind, steps, self._number)
        clock, memory = Clock(self._weights.device), PeakMemory(self._weights.device)
        memory.start()
        clock.start()
        done = contestant.edit(asked, clock.step)
        clock.stop()
        run = run_of(clock, memory.growth())
        cell.said = done.said
        if first:
            # Only now are the weights where they will stay.
            cell.first_s, cell.weight_bytes = run.edit_s(cell.steps), contestant.weight_bytes
        else:
            cell.runs.append(run)
        sys.stderr.write(f"{_named(cell)}: {'first ' if first else ''}{run.total_s:.2f} s\n")


def _named(cell: Cell) -> str:
    return f"{cell.contestant} {cell.precision}, {cell.references} references, {cell.kind}"


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
