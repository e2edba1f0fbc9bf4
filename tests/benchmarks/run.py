"""Speed, memory and deviation of an edit beside other ways to run the same model.

The published architecture at full size with random weights made on the GPU: nothing is downloaded.
Without a GPU a scaled-down proxy of the same code runs. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.deviation import Deviations
from benchmarks.entering import NAMES, Entry, Field
from benchmarks.environment import environment
from benchmarks.floors import matrix_rate
from benchmarks.hosting import Home, available_home
from benchmarks.plot import draw
from benchmarks.racing import Plan, Races
from benchmarks.recompiling import count_recompiles
from benchmarks.report import markdown
from benchmarks.results import Results
from benchmarks.reuse_trial import Trial
from benchmarks.scale import FULL, KINDS, PROXY, TINY, Kind, Scale
from benchmarks.task import PRECISIONS
from benchmarks.weights import CALM, UNIT, Weights, make_weights

PARTS = {"races": 0.6, "deviation": 0.85, "reuse": 1.0}
"""What is done, in this order, and the share of the time after which nothing of it is begun."""

SCALES = {"full": FULL, "proxy": PROXY, "tiny": TINY}
BUDGETS_S = {"cuda": 900.0, "cpu": 240.0}
SEEDS = (1, 2, 3)

DEVIATION = "Deviation from `none` in bf16"
REUSE = "Experiment: keys and values of references kept"
RECOMPILES = "Recompilations at `regular`"


def main() -> int:
    options = _parser().parse_args()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    # The libraries that others need warn of themselves; nobody can act on it here.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="firered-benchmark-") as folder:
        _Benchmark(options, device, Path(folder)).run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, help="folder for results.json, results.md and results.svg")
    add("--contestants", nargs="+", choices=NAMES, default=NAMES)
    add("--references", nargs="+", type=int, choices=(1, 2, 3), default=(1, 2, 3))
    add("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    add("--kinds", nargs="+", type=int, choices=(40, 30, 8), default=(40, 8, 30), help="steps")
    add("--steps", type=int, help="steps to run where the rest can be extrapolated")
    add("--whole", action="store_true", help="run all steps, extrapolate nothing")
    add("--repeats", type=int, help="3 on a GPU, 1 without")
    add("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    add("--recompiles", action="store_true", help="count recompilations, and nothing else")
    add("--budget-seconds", type=float, help="start nothing new after these")
    add("--calm", action="store_true", help="weights with which step caching leaves out most steps")
    add("--no-compile", action="store_true", help="leave all kernels uncompiled")
    add("--home", choices=("comfyui", "plain"), help="where ours runs; found out by default")
    add("--scale", choices=SCALES, help="full on a GPU, proxy without")
    return parser


class _Benchmark:
    """One call of the command."""

    def __init__(self, options: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self._options = options
        self._device = device
        self._folder = folder
        self._home: Home = options.home or available_home(device)
        self._budget_s = options.budget_seconds or BUDGETS_S[device.type]
        self._started = self._deadline = perf_counter()
        usual = "full" if device.type == "cuda" else "proxy"
        self._scale: Scale = SCALES[options.scale or usual]
        self._results = Results(
            self._scale.title + (", calm weights" if options.calm else ""),
            environment(device, self._home),
            matrix_rate(device, self._scale.matrix),
        )

    def run(self) -> None:
        if self._options.recompiles:
            self._results.title = "Compiled kernels and other edits"
            found = count_recompiles(self._home, self._folder, self._device)
            self._results.tables[RECOMPILES] = found
        else:
            self._compare()
        self._tell()
        sys.stdout.write(markdown(self._results))

    def _compare(self) -> None:
        options = self._options
        strength = CALM if options.calm else UNIT
        weights = make_weights(self._scale, self._folder, self._device, strength=strength)
        compiles = False if options.no_compile else None
        entry = Entry(weights, self._home, self._folder, options.precision, compiles)
        field = entry.field(options.contestants)
        self._results.absent = field.absent
        carry_out = {"races": self._races, "deviation": self._deviation, "reuse": self._reuse}
        for part in PARTS:
            if part in options.parts:
                self._deadline = self._started + self._budget_s * self._share(part)
                carry_out[part](weights, field)
                self._tell()

    def _share(self, part: str) -> float:
        return 1.0 if part == self._options.parts[-1] else PARTS[part]

    def _races(self, weights: Weights, field: Field) -> None:
        options = self._options
        plan = Plan(
            references=options.references,
            kinds=_kinds(options.kinds),
            repeats=options.repeats or (3 if self._device.type == "cuda" else 1),
            whole=options.whole,
            steps=options.steps,
            deadline=self._deadline,
        )
        Races(weights, field.contestants, self._results, plan).run(self._tell)

    def _deviation(self, weights: Weights, field: Field) -> None:
        exact = field.ours("none", "bf16")
        others = [each for each in field.contestants if each.name.startswith("ours")]
        others = [each for each in others if each is not exact]
        if exact is None or not others:
            return
        found = Deviations(exact, others, field.host, weights.scale)
        for done, seed in enumerate(SEEDS):
            if self._out_of_time:
                self._note(f"deviation: {done} of {len(SEEDS)} seeds in time")
                return
            found.run(seed)
            self._results.tables[DEVIATION] = found.rows

    def _reuse(self, weights: Weights, field: Field) -> None:
        if "bf16" not in field.models:
            return
        trial = Trial(weights, field.models["bf16"], field.host)
        rows: list[dict[str, str]] = []
        for row in trial.rows(self._options.references, lambda: self._out_of_time):
            rows.append(row)
            self._results.tables[REUSE] = rows
            self._tell()
        if not rows:
            self._note("reuse: no time left")

    @property
    def _out_of_time(self) -> bool:
        return perf_counter() > self._deadline

    def _tell(self) -> None:
        """Write what there is; a call that is broken off leaves it behind."""
        out = self._options.out
        if out is None:
            return
        out.mkdir(parents=True, exist_ok=True)
        self._results.write_json(out / "results.json")
        (out / "results.md").write_text(markdown(self._results))
        try:
            draw(self._results, out / "results.svg")
        except ImportError:
            self._note("no plot: pip install matplotlib")

    def _note(self, text: str) -> None:
        if text not in self._results.notes:
            self._results.notes.append(text)


def _kinds(steps: Sequence[int]) -> list[Kind]:
    """Those whose steps are taken from another kind come after it, whatever the order."""
    return sorted((kind for kind in KINDS if int(kind.split()[0]) in steps), key=_order)


def _order(kind: Kind) -> int:
    return (KINDS[0], KINDS[2], KINDS[1]).index(kind)


if __name__ == "__main__":
    raise SystemExit(main())
