"""An artist who meets a fault of fal, and queues the same edit up to three times."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from doubles.fal_server import FalServer
from firered_edit.pipeline.errors import MAX_LENGTH, FireRedError
from firered_edit.pipeline.fal.backlog import Backlog
from support.comfyui import wait_until
from support.fal_fixtures import Listener, edit, forget
from support.fal_trials import Plan, Trial, hurry, signed, wanted

MOST_RUNS = 3
PICTURE = "picture"
SETTLED = ("COMPLETED", "REMOVED")


@dataclass(frozen=True)
class Scenario:
    """A fault: how it is planned, and the outcome of each run from the first on."""

    name: str
    plan: Plan
    outcomes: str
    submits: int = 1
    accepted: int = 1
    billed: int = 1
    unusable: bool = False
    """There is no picture to be had of what fal billed."""
    once_more: bool = False
    """Run again although the first run gave the picture."""


@dataclass(frozen=True)
class Run:
    """One run of the edit, and what it took."""

    outcome: str
    requests: int


@dataclass(frozen=True)
class Found:
    """What came of one scenario."""

    runs: list[Run]
    submits: int
    accepted: int
    billed: int
    broken: list[str]
    """The rules that were broken, in words."""

    @property
    def outcomes(self) -> str:
        return " > ".join(run.outcome for run in self.runs)


def meet(scenario: Scenario, folder: Path, *, restarts: bool = False) -> Found:
    """Let an artist meet the fault; ``restarts``: each run is as if in a process of its own."""
    with FalServer(runner=signed) as server, ExitStack() as stack:
        environ = {**server.environment, "FIRERED_DATA_DIR": str(folder)}
        stack.enter_context(mock.patch.dict(os.environ, environ))
        stack.callback(forget)
        hurry(stack)
        trial = Trial(server, folder)
        stack.enter_context(trial.whole)
        runs = _runs(scenario, trial, restarts)
        broken = _broken(scenario, runs, trial)
        return Found(runs, server.count("submit"), len(server.jobs), server.billed, broken)


def _runs(scenario: Scenario, trial: Trial, restarts: bool) -> list[Run]:
    scenario.plan(trial)
    runs = [_run(trial)]
    trial.first_run.close()
    if scenario.once_more:
        runs.append(_run(trial))
    while len(runs) < MOST_RUNS and runs[-1].outcome != PICTURE:
        if restarts:
            forget()
        runs.append(_run(trial))
    return runs


def _run(trial: Trial) -> Run:
    server, host, words = trial.server, Listener(), ""
    before = len(server.requests)
    try:
        images = edit(trial.asked, host, **trial.options).images
        right = torch.equal(images[-1], wanted(trial.asked))
        outcome = PICTURE if right else "another picture"
    except Exception as error:  # noqa: BLE001 - what it is, is what is asked
        outcome, words = type(error).__name__, str(error)
        if not isinstance(error, FireRedError):
            outcome += " (unnamed)"
    # Whoever reads an error first queues again some moments later.
    wait_until(lambda: all(job.state in SETTLED for job in server.jobs))
    outcome += _leak(words, host.said, server.key)
    return Run(outcome, len(server.requests) - before)


def _leak(words: str, said: list[str], key: str) -> str:
    """What an artist must not see: an endless error, or a secret in it or before it."""
    told = "\n".join([words, *said])
    if key.partition(":")[2] in told or "data:image" in told:
        return " (secret)"
    return " (too long)" if len(words) > MAX_LENGTH else ""


def _broken(scenario: Scenario, runs: list[Run], trial: Trial) -> list[str]:
    server = trial.server
    broken = [run.outcome for run in runs if "(" in run.outcome or "another" in run.outcome]
    if server.billed > 1:
        broken.append("billed twice")
    if server.billed and not scenario.unusable and PICTURE not in {run.outcome for run in runs}:
        broken.append("paid and lost")
    if Backlog(trial.folder).spent_today() < server.billed_usd - 1e-6:
        broken.append("billed and not counted")
    return broken
