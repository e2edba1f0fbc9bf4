"""A stage for faults: a fal of its own, a small edit, and what can be made to go wrong."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from doubles.fal_server import FalServer, Fault, routes
from doubles.fal_server.desk import Desk
from doubles.fal_server.faults import Phase
from doubles.fal_server.replies import Call, Reply
from firered_edit.pipeline.errors import JournalError
from firered_edit.pipeline.fal.journal.database import Database
from firered_edit.pipeline.fal.protocol import following, reading, submitting, transport
from firered_edit.pipeline.geometry import MatchImage
from firered_edit.pipeline.images import Reference, to_tensor
from firered_edit.pipeline.request import EditRequest
from support.fal_fixtures import PAUSES

QUICK: list[tuple[Any, str, Any]] = [
    *PAUSES,
    (reading, "READ_TIMEOUT_S", (2.0, 0.5)),
    (submitting, "SUBMIT_PATIENCE_S", 1.2),
    (transport, "ANSWER_S", 0.5),
    (following, "STREAM_TIMEOUT_S", (2.0, 0.3)),
]
"""Pauses and patience, made short: what waits in them is the same."""


def hurry(stack: ExitStack) -> None:
    """Make the engine of this process impatient until ``stack`` is closed."""
    for module, name, value in QUICK:
        stack.enter_context(mock.patch.object(module, name, value))


def small_edit(seed: int = 7) -> EditRequest:
    """An edit of one picture, 48x32."""
    x, y = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 32))
    smooth = np.stack([x, y, 0.5 + 0.5 * np.sin(6 * x + 4 * y)], axis=-1)
    return EditRequest(
        prompt="put the hat on",
        references=(Reference(np.rint(smooth * 255).astype(np.uint8)),),
        size=MatchImage(),
        num_images=1,
        seed=seed,
        num_inference_steps=3,
        guidance_scale=4.0,
        negative_prompt="",
        acceleration="none",
        working_megapixels=0.0,
    )


def signed(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
    """The first reference, its first pixel telling the seed: no picture passes for another's."""
    picture = references[0].copy()
    picture.putpixel((0, 0), _signature(arguments["seed"]))
    return [picture] * int(arguments["num_images"])


def _signature(seed: int) -> tuple[int, int, int]:
    return seed % 256, seed // 256 % 256, 77


def wanted(asked: EditRequest) -> torch.Tensor:
    """The picture that ``signed`` makes of ``asked``, (H, W, 3) in 0..1."""
    pixels = asked.references[0].pixels.copy()
    pixels[0, 0] = _signature(asked.seed)
    return to_tensor(pixels)


Change = Callable[[Reply], Reply]
"""Makes another answer of fal's."""


@dataclass
class Trial:
    """The stage for one fault. What is put on it for the first run is gone after that run."""

    server: FalServer
    folder: Path
    asked: EditRequest = field(default_factory=small_edit)
    options: dict[str, Any] = field(default_factory=dict)
    first_run: ExitStack = field(default_factory=ExitStack)
    whole: ExitStack = field(default_factory=ExitStack)

    def ask(self, **changes: Any) -> None:
        """Ask for something else than the small edit."""
        self.asked = replace(self.asked, **changes)

    def fail(self, phase: Phase, fault: Fault, times: int = 1) -> None:
        self.server.fail(phase, fault, times)

    def refuse(self, phase: Phase, status: int, detail: Any = "no", times: int = 1) -> None:
        """Let fal itself, not the ingress, answer with a failure."""
        named = {"x-fal-request-id": "1f0c6d3e-0000-4000-8000-000000000000"}
        self.fail(phase, Fault.answer(status, {"detail": detail}, named), times)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Change an attribute for the first run."""
        self.first_run.enter_context(mock.patch.object(owner, name, value))

    def environ(self, **values: str) -> None:
        """Change the environment for the first run."""
        self.first_run.enter_context(mock.patch.dict(os.environ, values))

    def full_disk(self, since: Phase | None = None) -> None:
        """Let the journal find the disk full in the first run, ``since`` fal answers to that."""
        genuine, full = Database.writing, Event()

        @contextmanager
        def writing(database: Database) -> Iterator[sqlite3.Connection]:
            if since is None or full.is_set():
                raise JournalError("The journal cannot be used: disk full.", "Make room.")
            with genuine(database) as db:
                yield db

        def fill(reply: Reply) -> Reply:
            full.set()
            return reply

        self.set(Database, "writing", writing)
        if since is not None:
            self.rewrite(since, fill)

    def no_names(self) -> None:
        """Let no name of a host be found in the first run."""

        def unknown(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.set(socket, "getaddrinfo", unknown)

    def rewrite(self, phase: Phase, change: Change, times: int = 1) -> None:
        """Change what fal answers to the next so many requests of ``phase``."""
        turns = iter(range(times))
        self._rewrite(phase, change, lambda: next(turns, None) is not None, self.whole)

    def rewrite_first_run(self, phase: Phase, change: Change) -> None:
        """Change whatever fal answers to ``phase`` in the first run."""
        self._rewrite(phase, change, lambda: True, self.first_run)

    @staticmethod
    def _rewrite(phase: Phase, change: Change, now: Callable[[], bool], stack: ExitStack) -> None:
        genuine = Desk.answer

        def answer(desk: Desk, call: Call) -> Reply:
            reply = genuine(desk, call)
            return change(reply) if routes.find(call)[0] == phase and now() else reply

        stack.enter_context(mock.patch.object(Desk, "answer", answer))


Plan = Callable[[Trial], object]
"""Puts a fault on the stage."""
