"""Many edits on a loopback fal by several processes, with faults and kills, and what came of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from doubles.fal_server import FalServer, Fault
from doubles.fal_server.official import environment
from support.comfyui import wait_until
from support.fal_mischief import Mischief
from support.fal_tally import Outcome
from support.fal_worker import Ended, Footprint
from support.pack import ROOT, load_pack

SHARED = 20
"""Of so many edits, one is given to two processes."""

SILENCE_S = 120.0
"""No process is without a word for so long, unless something hangs."""

MOST_AWAY = 0.4
"""The longest that a killed process stays away, as a share of all edits: others go on meanwhile."""


HELD_UP, HELD_UP_S, MEANWHILE = 8, 5.0, 10
"""Before a kill so many submits are answered late, and so many edits come to their ends."""


@dataclass(frozen=True)
class Plan:
    """What is asked of the soak; ``run_seconds`` is the model's time."""

    edits: int = 1000
    workers: int = 3
    kills: int = 3
    faults_per_second: float = 5.0
    run_seconds: float = 2.0
    seed: int = 1


class Heard(NamedTuple):
    """A word from a worker; None when its process has ended."""

    worker: Worker
    word: Ended | Footprint | None


class Worker:
    """One of the processes, in all its lives."""

    def __init__(self, command: list[str], environ: dict[str, str], numbers: list[int]) -> None:
        self.left = numbers
        self.killed = False
        self.footprints: list[Footprint] = []
        """Of this life: at its start, when it is warm, and at its end."""
        self._command = command
        self._environ = environ

    def start(self, heard: SimpleQueue[Heard]) -> None:
        self.footprints.clear()
        self.killed = False
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(self.left) + "\n")
        self.process.stdin.close()
        Thread(target=self._listen, args=(self.process, heard), daemon=True).start()

    def kill(self) -> None:
        """End it as a power cut would: it can do nothing any more."""
        self.killed = True
        self.process.kill()

    def _listen(self, process: subprocess.Popen[str], heard: SimpleQueue[Heard]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            kind, values = json.loads(line)
            heard.put(Heard(self, Ended(**values) if kind == "Ended" else Footprint(**values)))
        process.stdout.close()
        process.wait()
        heard.put(Heard(self, None))


class Soak:
    """Starts the processes, hears them, kills some, and starts them again."""

    def __init__(self, server: FalServer, plan: Plan, folder: Path) -> None:
        self._server = server
        self._random = random.Random(plan.seed)
        self._heard: SimpleQueue[Heard] = SimpleQueue()
        command = [sys.executable, "-m", "support.fal_worker", str(folder)]
        environ = environment(
            **server.environment,
            OMP_NUM_THREADS="1",
            # Else glibc keeps what pictures took in the heaps of its threads, hundreds of MiB.
            MALLOC_MMAP_THRESHOLD_="131072",
            PYTHONPATH=str(ROOT / "tests"),
        )
        shares = _shares(plan)
        self.workers = [Worker(command, environ, share) for share in shares]
        self._running: set[Worker] = set()
        # In the first half, so that the last life of each is long enough to grow in.
        moments = (self._random.uniform(0.05, 0.5) for _ in range(plan.kills))
        self._total = sum(map(len, shares))
        self._blows: list[tuple[float, Callable[[], None]]] = []
        """What is done to the processes, and after how many edits that are over."""
        for moment in sorted(moments):
            begin = moment * self._total
            self._blows += [(begin, self._hold_up), (begin + MEANWHILE, self._kill_one)]
        self._dead: dict[Worker, float] = {}
        """After how many edits a process that was killed is started again."""
        self.ended: list[Ended] = []
        self.kills = 0

    def run(self) -> None:
        """Return when every process has come to the end of its list."""
        self._running = set(self.workers)
        try:
            for worker in self.workers:
                worker.start(self._heard)
            while self._running:
                self._take(*self._heard.get(timeout=SILENCE_S))
        finally:
            for worker in self._running:
                worker.process.kill()

    def _take(self, worker: Worker, word: Ended | Footprint | None) -> None:
        if isinstance(word, Footprint):
            worker.footprints.append(word)
        elif word:
            worker.left.remove(word.number)
            self.ended.append(word)
            while self._blows and len(self.ended) >= self._blows[0][0]:
                self._blows.pop(0)[1]()
        elif worker.killed:
            self.kills += 1
            away = self._random.uniform(0, MOST_AWAY) * self._total
            self._dead[worker] = len(self.ended) + away
        else:
            self._running.discard(worker)
            if worker.left:
                raise RuntimeError(f"a worker ended with status {worker.process.returncode}")
        self._revive()

    def _revive(self) -> None:
        """Start those again that were away for long enough, or that all others wait for."""
        busy = any(not worker.killed for worker in self._running)
        for worker, until in list(self._dead.items()):
            if len(self.ended) >= until or not busy:
                del self._dead[worker]
                worker.start(self._heard)

    def _hold_up(self) -> None:
        """Let fal accept edits and answer late, so that a kill finds some of them on their way."""
        self._server.fail("submit", Fault.hang(HELD_UP_S), HELD_UP)

    def _kill_one(self) -> None:
        alive = [worker for worker in self.workers if worker.left and not worker.killed]
        if alive:
            self._random.choice(alive).kill()
        else:
            self._blows.insert(0, (len(self.ended) + 1, self._kill_one))


def _shares(plan: Plan) -> list[list[int]]:
    """The edits of each process, by number; those that two have come at about the same time."""
    shares: list[list[int]] = [[] for _ in range(plan.workers)]
    for number in range(plan.edits):
        shares[number % plan.workers].append(number)
        if number % SHARED == 0:
            shares[(number + 1) % plan.workers].append(number)
    return shares


def carry_out(plan: Plan) -> Outcome:
    """All edits of ``plan``, to their ends."""
    load_pack()
    with (
        FalServer(run_seconds=plan.run_seconds) as server,
        tempfile.TemporaryDirectory(prefix="firered-soak-") as name,
    ):
        folder = Path(name)
        soak = Soak(server, plan, folder)
        began = time.monotonic()
        with Mischief(server, plan.faults_per_second, plan.seed) as mischief:
            soak.run()
        seconds = time.monotonic() - began
        wait_until(lambda: all(job.state in ("COMPLETED", "REMOVED") for job in server.jobs))
        billed = [job.arguments for job in server.jobs if job.units]
        return Outcome(
            seconds=seconds,
            kills=soak.kills,
            ended=soak.ended,
            footprints=[worker.footprints for worker in soak.workers],
            planned=mischief.planned,
            taken=mischief.taken,
            requests=len(server.requests),
            submits=server.count("submit"),
            bills=Counter((arguments["seed"], arguments["prompt"]) for arguments in billed),
            backlog=_backlog(folder),
        )


def _backlog(folder: Path) -> set[tuple[int, str]]:
    """What the journal offers to collect, by seed and prompt."""
    from firered_edit.pipeline.fal.journal import COLLECTABLE, Journal

    journal = Journal(folder)
    try:
        return {(entry.seed, entry.prompt) for entry in journal.unattended(COLLECTABLE)}
    finally:
        journal.close()
