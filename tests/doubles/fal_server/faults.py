"""What can go wrong on the way to fal and back, planned per phase."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Self

from .replies import Reply

Phase = Literal[
    "submit", "status", "stream", "result", "cancel", "run", "history",
    "token", "initiate", "upload", "get", "unknown",
]  # fmt: skip

Kind = Literal["answer", "reset", "lose", "truncate", "hang", "corrupt", "cut"]

BODY_KINDS: frozenset[Kind] = frozenset({"truncate", "corrupt"})
"""These need a body whose length is known, which a stream has not."""

NGINX = """<html>
<head><title>{0}</title></head>
<body><center><h1>{0}</h1></center><hr><center>nginx</center></body>
</html>
"""

READABLE_HEAD = 48
"""Bytes that `corrupt` spares: enough for a decoder to take the picture for a good one."""


@dataclass(frozen=True)
class Fault:
    kind: Kind
    reply: Reply = field(default_factory=Reply)
    keep: int = 0
    seconds: float = 0.0
    events: int = 0

    @classmethod
    def answer(
        cls, status: int, document: Any = None, headers: Mapping[str, str] | None = None
    ) -> Self:
        """Answer with this JSON document instead of doing what was asked."""
        return cls("answer", reply=Reply.json(status, document, headers))

    @classmethod
    def throttle(cls, retry_after: float = 1) -> Self:
        headers = {"Retry-After": f"{retry_after:g}"}
        return cls.answer(429, {"detail": "Too many requests."}, headers)

    @classmethod
    def nginx(cls, status: int = 502) -> Self:
        """The ingress in front of fal: html, and no x-fal-request-id."""
        page = NGINX.format(f"{status} {HTTPStatus(status).phrase}").encode()
        return cls("answer", reply=Reply(status, page, {"Content-Type": "text/html"}))

    @classmethod
    def reset(cls) -> Self:
        """Reset the connection; the request is not accepted."""
        return cls("reset")

    @classmethod
    def lose(cls) -> Self:
        """Do what was asked and close the connection without an answer."""
        return cls("lose")

    @classmethod
    def truncate(cls, keep: int = 64) -> Self:
        """Promise the whole body, send `keep` bytes of it and close the connection."""
        return cls("truncate", keep=keep)

    @classmethod
    def hang(cls, seconds: float) -> Self:
        """Do what was asked at once and answer late."""
        return cls("hang", seconds=seconds)

    @classmethod
    def corrupt(cls) -> Self:
        """Send a body of the right length whose bytes are wrong after the first few."""
        return cls("corrupt")

    @classmethod
    def cut(cls, events: int = 1) -> Self:
        """Close a status stream after so many events."""
        return cls("cut", events=events)


def corrupted(reply: Reply) -> Reply:
    head, rest = reply.body[:READABLE_HEAD], reply.body[READABLE_HEAD:]
    return replace(reply, body=head + bytes(byte ^ 0xFF for byte in rest))


class Faults:
    """The faults still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: dict[Phase, deque[Fault]] = {}

    def plan(self, phase: Phase, fault: Fault, times: int) -> None:
        if phase == "stream" and fault.kind in BODY_KINDS:
            raise ValueError(f"a stream cannot fail with {fault.kind!r}")
        if phase != "stream" and fault.kind == "cut":
            raise ValueError("only a stream can be cut after some events")
        with self._lock:
            self._planned.setdefault(phase, deque()).extend([fault] * times)

    def take(self, phase: Phase) -> Fault | None:
        with self._lock:
            planned = self._planned.get(phase)
            return planned.popleft() if planned else None
