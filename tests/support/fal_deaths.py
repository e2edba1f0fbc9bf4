"""An edit whose process is killed at every point of its way, and what comes after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

from PIL import Image

from doubles.fal_server import FalServer, Fault
from support.comfyui import wait_until
from support.fal_artist import PICTURE, SETTLED
from support.fal_trials import signed
from support.fal_victim import TRAPS, Errand
from support.pack import ROOT

MOST_RUNS = 3
SEED = 7
CHOICES = ("UncollectedError", "UncertainError")
"""The artist is asked before anything is sent."""

Sequel = Literal["same seed", "changed seed", "start-up"]


@dataclass(frozen=True)
class Point:
    """Where a process dies, and what is expected of those after it.

    ``changed``: a run with another seed, then with the old one if the artist is asked.
    """

    name: str
    same: str = PICTURE
    changed: str = f"UncollectedError > {PICTURE}"
    start_up: str = "done"
    plan: Callable[[FalServer], object] = lambda _: None

    def expected(self, sequel: Sequel) -> str:
        """The outcomes of the runs after the death."""
        words = {"same seed": self.same, "changed seed": self.changed, "start-up": self.start_up}
        return words[sequel]


def _hanging(server: FalServer) -> None:
    server.fail("submit", Fault.hang(1.0))


def _queueing(server: FalServer) -> None:
    server.queue_seconds = 0.3


def _running(server: FalServer) -> None:
    server.run_seconds = 0.3


_NOTHING: dict[str, Any] = {"changed": PICTURE, "start_up": "nothing"}

POINTS = [
    Point("before it is claimed", **_NOTHING),
    Point("claimed", **_NOTHING),
    Point("packed, not noted as sent", **_NOTHING),
    Point(
        "noted as sent, not sent",
        same=f"UncertainError > {PICTURE}",
        start_up="uncertain",
    ),
    Point("sent, not answered", plan=_hanging),
    Point("accepted, not noted"),
    Point("accepted and noted"),
    Point("in fal's queue", plan=_queueing),
    Point("running at fal", plan=_running),
    Point("completed, result not asked for"),
    Point("result here, not noted"),
    Point("result noted"),
    Point("picture here, not on disk"),
    Point("picture on disk, not noted"),
    Point("picture noted"),
    Point("returned, run not over"),
]
assert [point.name for point in POINTS] == list(TRAPS)


@dataclass(frozen=True)
class After:
    """What came after a death: the outcome of each run, and what fal counted in all."""

    outcomes: str
    submits: int
    billed: int

    @property
    def well(self) -> bool:
        """Paid once at most, and what was paid for is here."""
        return self.billed <= 1 and (not self.billed or self._has_picture)

    @property
    def _has_picture(self) -> bool:
        return self.outcomes.endswith((PICTURE, "done"))


class Mortal:
    """A process that runs errands, each in a fork of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, errand: Errand) -> str:
        """The errand's outcome, or "killed"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(errand)) + "\n")
        self._process.stdin.flush()
        outcome = "no outcome"
        while "ended" not in (message := json.loads(self._process.stdout.readline())):
            outcome = message["outcome"]
        return "killed" if message["ended"] == -signal.SIGKILL else str(outcome)


@contextmanager
def mortal() -> Iterator[Mortal]:
    """Start one; it takes a second or two."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "support.fal_victim"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True
    )
    with process:
        yield Mortal(process)


def after(point: Point, sequel: Sequel, mortal: Mortal, folder: Path) -> After:
    """Let an edit die at ``point`` and go on as ``sequel`` says."""
    with FalServer(runner=signed) as server:
        environ = _environ(server, folder)
        point.plan(server)
        _kill(mortal, environ, point.name)
        return _after(server, list(_sequel(sequel, mortal, environ)))


def dies_while_it_is_sent_anew(mortal: Mortal, folder: Path) -> After:
    """fal has the edit and its history does not show it yet: it is sent anew, or nearly so."""
    finish = Event()

    def runner(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
        finish.wait(30.0)
        return signed(arguments, references)

    with FalServer(runner=runner, history_lists_running=False) as server:
        environ = _environ(server, folder)
        server.fail("submit", Fault.lose())
        if (first := mortal.run(Errand(environ, SEED))) != "UncertainError":
            raise AssertionError(f"a lost answer without a history gave {first}")
        _kill(mortal, environ, "packed, not noted as sent")
        finish.set()
        wait_until(lambda: server.billed == 1)
        return _after(server, list(_sequel("same seed", mortal, environ)))


def _environ(server: FalServer, folder: Path) -> dict[str, str]:
    return {**server.environment, "FIRERED_DATA_DIR": str(folder)}


def _kill(mortal: Mortal, environ: dict[str, str], point: str) -> None:
    outcome = mortal.run(Errand(environ, SEED, point=point))
    if outcome != "killed":
        raise AssertionError(f"{point}: the edit was to die and ended with {outcome}")


def _after(server: FalServer, outcomes: list[str]) -> After:
    wait_until(lambda: all(job.state in SETTLED for job in server.jobs))
    return After(" > ".join(outcomes), server.count("submit"), server.billed)


def _sequel(sequel: Sequel, mortal: Mortal, environ: dict[str, str]) -> Iterator[str]:
    if sequel == "start-up":
        yield mortal.run(Errand(environ, collect=True))
        return
    seed = SEED + 1 if sequel == "changed seed" else SEED
    for _ in range(MOST_RUNS):
        outcome = mortal.run(Errand(environ, seed))
        yield outcome
        if outcome not in CHOICES:
            return
        seed = SEED
