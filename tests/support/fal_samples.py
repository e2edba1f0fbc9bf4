"""Edits on the loopback fal by several clients, and what each of them took."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple

from doubles.fal_server import FalServer
from doubles.fal_server.official import environment
from support.fal_clients import Batch, Spent
from support.pack import ROOT
from support.slow_line import SlowLine

SIDE, STEPS = 256, 30

ALLOWED_ROUND_TRIPS, ALLOWED_MS, ALLOWED_REQUESTS = 2, 15.0, 4
"""Submit and result take a round trip each. To open the stream takes one more, which the model's
time hides; where it is over sooner than that, what it does not hide is allowed too."""

CROWD, CROWD_SIDE, CROWD_STEPS = 100, 64, 4
CROWD_THREADS = 20
"""As in ComfyUI: a window of 16 and four edits that are prepared meanwhile."""
CROWD_SECONDS, CROWD_LIMIT = 0.5, 10

seeds = itertools.count(1)
"""No seed comes twice, or an engine that remembers its edits would have nothing to do."""


class Case(NamedTuple):
    round_trip_ms: int
    model_s: float

    @property
    def allowed_ms(self) -> float:
        """The most overhead that is asked of our engine."""
        shown = max(0.0, self.round_trip_ms - 1000 * self.model_s)
        return ALLOWED_ROUND_TRIPS * self.round_trip_ms + shown + ALLOWED_MS


class Sample(NamedTuple):
    """One edit."""

    overhead_ms: float
    submit_ms: float
    """Until the submit was sent whole; part of the overhead."""
    download_ms: float
    requests: int
    connections: int
    """Opened for it."""
    cpu_ms: float


@dataclass(frozen=True)
class Row:
    """One client in one case."""

    case: Case
    client: str
    samples: list[Sample]

    def median(self, field: str) -> float:
        return statistics.median(self._values(field))

    def spread(self, field: str, digits: int = 1) -> str:
        values = self._values(field)
        return (
            f"{self.median(field):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"
        )

    def _values(self, field: str) -> list[float]:
        return [getattr(sample, field) for sample in self.samples]


@dataclass(frozen=True)
class Crowd:
    wall_s: float
    ideal_s: float
    requests_per_edit: float
    cpu_ms_per_edit: float
    billed: int
    connections: int


class Client:
    """One of the clients, in its process."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def carry_out(self, batch: Batch) -> Spent:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(batch)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client {self.name!r} gave up")
        return Spent(**json.loads(answer))

    def edit(self) -> Spent:
        return self.carry_out(Batch([next(seeds)], SIDE, STEPS))


@contextmanager
def running(name: str, server: FalServer, line: SlowLine) -> Iterator[Client]:
    settings = {
        "FAL_KEY": server.key,
        "FAL_QUEUE_RUN_HOST": f"localhost:{line.port}",
        "SSL_CERT_FILE": str(server.ca_file),
        "REQUESTS_CA_BUNDLE": str(server.ca_file),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "tests"),
    }
    with tempfile.TemporaryDirectory(prefix="firered-speed-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.fal_clients", name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**settings),
            text=True,
        )
        with process:
            yield Client(name, process)


def one_edit(server: FalServer, line: SlowLine, client: Client, model_s: float) -> Sample:
    server.run_seconds = 0.0
    client.edit()
    server.requests.clear()
    server.jobs.clear()
    server.run_seconds = model_s
    opened = line.opened
    spent = client.edit()
    (job,) = server.jobs
    # What arrives at fal was sent half a round trip before.
    sent = {request.phase: request.at - line.round_trip_s / 2 for request in server.requests}
    assert job.duration is not None
    return Sample(
        overhead_ms=1000 * (sent["get"] - spent.started - job.duration),
        submit_ms=1000 * (sent["submit"] - spent.started),
        download_ms=1000 * (spent.ended - sent["get"]),
        requests=len(server.requests),
        connections=line.opened - opened,
        cpu_ms=1000 * spent.cpu_s,
    )


def compare(
    server: FalServer, line: SlowLine, clients: Sequence[Client], case: Case, rounds: int
) -> list[Row]:
    """All clients in one case, taking turns; each round begins with another."""
    line.round_trip_s = case.round_trip_ms / 1000
    rows = {client.name: Row(case, client.name, []) for client in clients}
    for turn in range(rounds):
        first = turn % len(clients)
        for client in [*clients[first:], *clients[:first]]:
            rows[client.name].samples.append(one_edit(server, line, client, case.model_s))
    return list(rows.values())


def crowd(server: FalServer, line: SlowLine, client: Client) -> Crowd:
    line.round_trip_s = 0.0
    server.run_seconds, server.concurrency = CROWD_SECONDS, CROWD_LIMIT
    server.requests.clear()
    server.jobs.clear()
    opened = line.opened
    numbers = list(itertools.islice(seeds, CROWD))
    spent = client.carry_out(Batch(numbers, CROWD_SIDE, CROWD_STEPS, CROWD_THREADS))
    return Crowd(
        wall_s=spent.ended - spent.started,
        ideal_s=CROWD * CROWD_SECONDS / CROWD_LIMIT,
        requests_per_edit=len(server.requests) / CROWD,
        cpu_ms_per_edit=1000 * spent.cpu_s / CROWD,
        billed=server.billed,
        connections=line.opened - opened,
    )
