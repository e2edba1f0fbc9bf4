"""Where every request arrives: it is recorded, given the fault planned for it, and answered."""

import threading
import time
import uuid
from dataclasses import dataclass, replace

from . import routes
from .api import Api
from .faults import Fault, Faults, Phase
from .replies import Call, Reply
from .settings import Settings


@dataclass(frozen=True)
class Request:
    phase: Phase
    method: str
    path: str
    host: str
    had_key: bool
    """Whether the account's key, or any header of its kind, was anywhere in the head."""
    authorized: bool
    """Whether there was an Authorization header at all."""
    at: float
    """When it had arrived whole, as time.monotonic() tells it."""


class Desk:
    def __init__(self, settings: Settings, api: Api, closing: threading.Event) -> None:
        self.requests: list[Request] = []
        self.faults = Faults()
        self.closing = closing
        self._settings = settings
        self._api = api

    def receive(self, call: Call) -> Fault | None:
        phase, _ = routes.find(call)
        self.requests.append(self._record(phase, call))
        return self.faults.take(phase)

    def answer(self, call: Call) -> Reply:
        phase, request_id = routes.find(call)
        reply = self._api.answer(phase, request_id, call)
        if phase == "get":
            return reply
        # Whatever fal itself answers bears an id; only the ingress in front of it does not.
        return replace(reply, headers={"x-fal-request-id": str(uuid.uuid4()), **reply.headers})

    def _record(self, phase: Phase, call: Call) -> Request:
        authorization = call.headers.get("authorization", "")
        head = "\n".join([call.target, *call.headers.values()])
        return Request(
            phase=phase,
            method=call.method,
            path=call.target,
            host=call.headers.get("host", ""),
            had_key=authorization.startswith("Key ") or self._settings.key in head,
            authorized=bool(authorization),
            at=time.monotonic(),
        )
