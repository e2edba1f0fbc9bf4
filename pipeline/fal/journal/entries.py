"""What the journal writes down, and what it answers."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from ...geometry import Plan, Size
from ..protocol.answers import Answer, Job

State = Literal[
    "preparing",  # claimed; nothing was sent that could cost anything
    "submitting",  # on its way to fal: whether fal has it is not known before it answers
    "uncertain",  # no answer came, or its process died while it was on its way
    "queued",  # accepted; from here on there is a request id
    "cancelling",  # the artist pressed Cancel; it may complete all the same
    "result",  # completed; fal's answer is known
    "done",  # its pictures are on disk
    "failed",
    "cancelled",
]

ACCEPTED: tuple[State, ...] = ("queued", "cancelling", "result")
"""Known to fal, and not at the end."""

ENDED: tuple[State, ...] = ("failed", "cancelled")
"""Nothing to collect: the same edit may be ordered anew."""

COLLECTABLE: tuple[State, ...] = ("uncertain", *ACCEPTED, "done")
"""Paid, or maybe paid."""


@dataclass(frozen=True)
class Shape:
    """How the pictures that fal returns become those the artist asked for."""

    canvas: Size
    frame: tuple[float, float]
    output: Size

    @classmethod
    def of(cls, plan: Plan) -> Shape:
        return cls(plan.canvas, plan.frame, plan.output)

    def plan(self) -> Plan:
        """The way back; the way there is over."""
        return Plan(self.canvas, self.frame, self.output, fits=(), locked=False)

    def to_json(self) -> str:
        canvas, output = self.canvas, self.output
        sides = [[canvas.width, canvas.height], list(self.frame), [output.width, output.height]]
        return json.dumps(sides)

    @classmethod
    def from_json(cls, text: str) -> Shape:
        canvas, frame, output = json.loads(text)
        return cls(Size(*canvas), (frame[0], frame[1]), Size(*output))


@dataclass(frozen=True)
class Order:
    """An edit as the journal knows it.

    ``key`` is a digest of everything that decides the pictures, ``family`` of the same without the
    seed. ``account`` tells keys apart without holding one. ``price`` is the higher estimate in US
    dollars.
    """

    key: str
    family: str
    seed: int
    prompt: str
    account: str
    price: float
    shape: Shape


@dataclass(frozen=True)
class Visit:
    """One edit node's stay with a job: its own ``token``, and the run it belongs to."""

    token: str
    run_id: str


@dataclass(frozen=True)
class Entry:
    """One job of the journal. Times are in seconds since 1970."""

    key: str
    family: str
    state: State
    owner: str
    seed: int
    prompt: str
    account: str
    price: float
    shape: Shape
    changed_at: float
    sent_at: float | None
    payload_digest: str | None
    uploads: list[str]
    job: Job | None
    answer: Answer | None
    files: list[str]
    problem: str | None
    asked_run: str | None
    delivered_at: float | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> Entry:
        values: dict[str, Any] = dict(row)
        request_id, addresses = values.pop("request_id"), values.pop("addresses")
        answer = values["answer"]
        return cls(
            **values
            | {
                "shape": Shape.from_json(values["shape"]),
                "uploads": json.loads(values["uploads"]),
                "files": json.loads(values["files"]),
                "job": Job(request_id, *json.loads(addresses)) if request_id else None,
                "answer": Answer.from_document(json.loads(answer)) if answer else None,
            }
        )

    def is_unasked(self, run_id: str) -> bool:
        """Whether the artist was told of it in no run before ``run_id``."""
        return self.asked_run in (None, run_id)

    @property
    def request_id(self) -> str | None:
        return self.job.request_id if self.job else None


Turn = Literal["send", "wait", "attach", "serve", "resolve", "ask"]


@dataclass(frozen=True)
class Claim:
    """What an edit may do now.

    ``send``: nobody else has it; ``doubtful`` are uncertain jobs that differ in the seed alone.
    ``wait``: another edit is sending the same. ``attach``: fal is at it. ``serve``: the pictures
    are on disk. ``resolve``: fal may have it. ``ask``: ``uncollected`` jobs differ in the seed
    alone.
    """

    turn: Turn
    entry: Entry | None = None
    doubtful: tuple[Entry, ...] = ()
    uncollected: tuple[Entry, ...] = ()
