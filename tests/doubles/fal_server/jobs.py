"""One job, from the moment fal accepts it."""

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from .outcomes import Outcome
from .schema import unknown_fields

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "REMOVED"]
"""fal's three, and REMOVED for a job cancelled in the queue, which fal then does not know."""


class Snapshot(NamedTuple):
    """What a status tells; two equal ones are no news."""

    state: State
    position: int
    lines: int


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(eq=False)
class Job:
    arguments: Any
    """The input exactly as it was sent."""
    headers: Mapping[str, str]
    """Of the submit, names in lower case."""
    file_origin: str
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "IN_QUEUE"
    strangers: int = 0
    """Requests of other accounts that are ahead in the queue."""
    logs: list[dict[str, str]] = field(default_factory=list)
    outcome: Outcome | None = None
    cancelling: bool = False
    deadline: float = field(init=False)
    """Until when it must have started, on the monotonic clock."""
    sent_at: datetime = field(default_factory=_now)
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def __post_init__(self) -> None:
        allowed = float(self.headers.get("x-fal-request-timeout", math.inf))
        self.deadline = time.monotonic() + allowed

    @property
    def unknown_fields(self) -> list[str]:
        return unknown_fields(self.arguments)

    @property
    def units(self) -> int:
        return self.outcome.units if self.outcome else 0

    @property
    def duration(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    def start(self) -> None:
        self.state = "IN_PROGRESS"
        self.started_at = _now()

    def log(self, message: str) -> None:
        stamp = _now().isoformat()
        line = {"message": message, "level": "INFO", "source": "USER", "timestamp": stamp}
        self.logs.append(line)

    def complete(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.ended_at = _now()
        self.state = "COMPLETED"
