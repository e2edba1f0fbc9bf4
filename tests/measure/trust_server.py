"""Anything at all, for minutes: damaged model files, random graphs, many edits, storms of cancels.

Files are loaded in this process; graphs, edits and cancels go to a real ComfyUI that listens to a
fal on loopback. Every input is decided by the seed and its number. Exit status 1 where a rule was
broken.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
import torch

from support.pack import load_pack

load_pack()

from doubles.tiny_model import build_tiny_model  # noqa: E402 - needs the pack
from support.file_trials import Workshop  # noqa: E402
from support.graph_trials import Stage, staged  # noqa: E402
from support.quick import quick_edits  # noqa: E402
from support.resources import (  # noqa: E402
    ENGINES,
    MEBIBYTE,
    cancel_storm,
    edited,
    in_limbo,
    left_behind,
    many_edits,
    told,
    workflow_of,
)


@dataclass(frozen=True)
class Plan:
    files: int = 1500
    graphs: int = 400
    edits: int = 500
    """By each engine."""
    cancels: int = 100
    seed: int = 0
    """0 is a new one."""


@dataclass
class Account:
    """What was tried, and what went wrong."""

    inputs: int = 0
    faults: int = 0
    failures: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def note(self, outcome: str, broken: Iterable[str], *, fault: bool) -> None:
        self.inputs += 1
        self.faults += fault
        self.outcomes[outcome] += 1
        for rule in broken:
            self.fail(rule)

    def fail(self, words: str) -> None:
        self.failures.append(words)
        say(f"FAILED {words}")


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def try_files(plan: Plan, folder: Path, account: Account) -> None:
    """Load damaged files, and edit with what loads."""
    tiny = build_tiny_model(folder / "tiny")
    workshop = Workshop(tiny, folder, plan.seed)
    before = psutil.Process().memory_info().rss
    with quick_edits(), _timed(f"{plan.files} damaged files"):
        for number in range(plan.files):
            met = workshop.meet(number)
            account.note(f"files: {met.outcome}", [str(met)] if met.broken else [], fault=True)
    grown = (psutil.Process().memory_info().rss - before) / MEBIBYTE
    say(f"memory of this process grew by {grown:.0f} MiB")


def try_server(plan: Plan, folder: Path, account: Account) -> None:
    """Give a ComfyUI everything that is to be given to one."""
    with staged(folder / "comfyui", plan.seed) as stage:
        sound = {engine: workflow_of(engine, "as before", 7) for engine in ENGINES}
        before = {engine: edited(stage.comfyui, each) for engine, each in sound.items()}
        _graphs(plan, stage, account)
        _storm(plan, stage, account)
        _edits(plan, stage, account)
        for engine, workflow in sound.items():
            if not np.array_equal(edited(stage.comfyui, workflow), before[engine]):
                account.fail(f"{engine}: an edit is not what it was before")


def _graphs(plan: Plan, stage: Stage, account: Account) -> None:
    with _timed(f"{plan.graphs} graphs"):
        for number in range(plan.graphs):
            met = stage.meet(number)
            # Every third is sound.
            account.note(
                f"graphs: {met.outcome}", [str(met)] if met.broken else [], fault=number % 3 > 0
            )


def _storm(plan: Plan, stage: Stage, account: Account) -> None:
    with _timed(f"{plan.cancels} cancels"):
        storm = cancel_storm(stage.comfyui, "storm", plan.cancels, random.Random(plan.seed))
    for end, count in storm.ends.items():
        account.outcomes[f"cancels: {end}"] += count
        if "failed" in end:
            account.fail(f"{count} cancelled edits {end}")
    account.inputs += plan.cancels
    account.faults += plan.cancels
    if limbo := in_limbo(stage.comfyui):
        account.fail(f"in limbo: {limbo}")


def _edits(plan: Plan, stage: Stage, account: Account) -> None:
    for engine in ENGINES:
        with _timed(f"{plan.edits} edits, {engine}"):
            footprints = many_edits(stage.comfyui, engine, f"many {engine}", plan.edits)
        told(say, engine, footprints)
        for left in left_behind(footprints[0], footprints[-1]):
            account.fail(f"{engine}: {left}")
        account.inputs += plan.edits


@contextmanager
def _timed(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - began:.0f} s")


def _plan() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    for each in fields(Plan):
        parser.add_argument(f"--{each.name}", type=int, default=each.default)
    given = vars(parser.parse_args())
    return Plan(**{**given, "seed": given["seed"] or secrets.randbelow(10**6) + 1})


def main() -> int:
    plan, account = _plan(), Account()
    torch.set_num_threads(1)
    # ComfyUI's reader and the libraries tell at length what is wrong with each file.
    logging.disable(logging.CRITICAL)
    say(f"seed: {plan.seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try_files(plan, folder, account)
        try_server(plan, folder, account)
    for outcome, count in sorted(account.outcomes.items()):
        say(f"{outcome}: {count}")
    seconds = time.monotonic() - began
    say(
        f"inputs tried {account.inputs}, faults injected {account.faults}, seconds {seconds:.0f}, "
        f"failures {len(account.failures)}"
    )
    return 1 if account.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
