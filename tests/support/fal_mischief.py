"""Faults at a fixed rate and at random, over every phase of fal's protocol."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from threading import Event, Thread

from doubles.fal_server import FalServer, Fault
from doubles.fal_server.faults import Phase

FAULTS: dict[Phase, Sequence[Fault]] = {
    "submit": (Fault.nginx(), Fault.throttle(), Fault.lose(), Fault.reset()),
    "stream": (Fault.cut(), Fault.answer(405), Fault.reset()),
    "status": (Fault.answer(503),),
    "result": (Fault.truncate(), Fault.reset(), Fault.nginx()),
    "get": (Fault.answer(404), Fault.truncate(), Fault.corrupt()),
    "history": (Fault.answer(503), Fault.reset(), Fault.truncate()),
    "token": (Fault.answer(503), Fault.reset()),
    "upload": (Fault.answer(401), Fault.answer(500), Fault.reset(), Fault.lose()),
}


class Mischief:
    """Plans faults while the context lasts, one after another in random phases."""

    def __init__(self, server: FalServer, faults_per_second: float, seed: int) -> None:
        self.planned: Counter[Phase] = Counter()
        self._server = server
        self._pause_s = 1 / faults_per_second
        self._random = random.Random(seed)
        self._over = Event()
        self._seen: dict[Phase, int] = {}
        self._thread = Thread(target=self._plan, daemon=True)

    def __enter__(self) -> Mischief:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def taken(self) -> int:
        return self.planned.total() - sum(map(self._waits, self._seen))

    def _waits(self, phase: Phase) -> bool:
        """Whether nobody has met the last fault of this phase yet."""
        return self._server.count(phase) == self._seen.get(phase)

    def _plan(self) -> None:
        while not self._over.wait(self._pause_s):
            phase = self._random.choice(list(FAULTS))
            if self._waits(phase):
                continue
            fault = self._random.choice(FAULTS[phase])
            self._server.fail(phase, fault)
            self._seen[phase] = self._server.count(phase)
            self.planned[phase] += 1
