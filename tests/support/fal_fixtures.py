"""The remote engine in this process: a loopback fal, a journal of its own, a host that listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from doubles.fal_server import FalServer
from firered_edit.pipeline.fal import collecting, connecting, engine, journal, placing
from firered_edit.pipeline.fal.payload import FalOptions
from firered_edit.pipeline.fal.protocol import following, reading, repeating, submitting
from firered_edit.pipeline.fal.uploads import encoded
from firered_edit.pipeline.host import PlainHost, RemoteSettings
from firered_edit.pipeline.request import EditRequest, EditResult


class Listener(PlainHost):
    """Remembers what it was told; cancels when ``cancel_when`` says so."""

    def __init__(
        self, cancel_when: Callable[[], bool] = lambda: False, run_id: str | None = None
    ) -> None:
        super().__init__(cancelled=cancel_when, run_id=run_id or f"run-{time.monotonic_ns()}")
        self.said: list[str] = []
        self.chosen = RemoteSettings()

    def say(self, text: str) -> None:
        self.said.append(text)

    @property
    def settings(self) -> RemoteSettings:
        return self.chosen


class Unfinished(Listener):
    """Its run never ends: what it was given counts as never delivered."""

    def when_run_ends(self, tell: Callable[[bool], None]) -> None:
        self.tell = tell


def edit(asked: EditRequest, host: PlainHost | None = None, **options: Any) -> EditResult:
    """``asked``, carried out by the engine."""
    return engine.FalEngine(host or Listener()).edit(asked, FalOptions(**options))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FalServer]:
    """A loopback fal that the engine of this process is led to, and an empty journal."""
    with FalServer() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FIRERED_DATA_DIR", str(tmp_path / "data"))
        yield running
        forget()


@pytest.fixture
def data(server: FalServer, tmp_path: Path) -> Path:
    """The folder of that journal."""
    return tmp_path / "data"


PAUSES: list[tuple[ModuleType, str, Any]] = [
    (repeating, "RETRY_PAUSE_S", (0.01, 0.05)),
    (following, "POLL_S", (0.01, 0.02)),
    (reading, "READ_PATIENCE_S", 2.0),
    (reading, "MISSING_S", 0.1),
    (reading, "GONE_S", 0.3),
    (submitting, "SUBMIT_PATIENCE_S", 0.6),
    (placing, "HISTORY_PAUSES_S", (0.0,)),
]
"""Every pause and patience of the engine, made short."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine waits for nothing for long."""
    for module, name, value in PAUSES:
        monkeypatch.setattr(module, name, value)


def forget() -> None:
    """Leave this process as if it had never used the engine, as its end would."""
    for collector in collecting.collector_in.forget():
        collector.close()
    for opened in journal.journal_in.forget():
        opened.close()
    encoded.encoded.clear()
    connecting.session().close()
    connecting.session.cache_clear()
