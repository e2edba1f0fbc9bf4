"""What ComfyUI tells a connected page while a workflow runs."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from support.comfyui import ComfyUI

PREVIEW_EVENT, TEXT_EVENT = 1, 3
"""ComfyUI's numbers for binary messages: a preview picture, and the text shown on a node."""


@dataclass(frozen=True)
class Told:
    """A text as it was heard; ``at`` is this process's monotonic clock."""

    at: float
    node: str
    text: str


@dataclass
class Events:
    """Everything heard so far, in order."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    """Encoded pictures."""

    @property
    def texts(self) -> list[str]:
        """What was told about any node."""
        return [told.text for told in self.told]

    def of_node(self, node: str) -> list[str]:
        """The texts of one node."""
        return [told.text for told in self.told if told.node == node]

    @property
    def last_text(self) -> str:
        """What a node shows now; empty before the first word."""
        return self.told[-1].text if self.told else ""

    def progress(self, node: str) -> list[tuple[float, float]]:
        """The bar of ``node`` over time: value and maximum."""
        states = [
            message["data"]["nodes"].get(node)
            for message in self.messages
            if message["type"] == "progress_state"
        ]
        return [(state["value"], state["max"]) for state in states if state]

    def hear(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.messages.append(json.loads(message))
            return
        kind, head = struct.unpack(">II", message[:8])
        if kind == TEXT_EVENT:
            node, text = message[8 : 8 + head].decode(), message[8 + head :].decode()
            self.told.append(Told(time.monotonic(), node, text))
        elif kind == PREVIEW_EVENT:
            self.previews.append(message[8:])


@contextmanager
def listening(server: ComfyUI) -> Iterator[Events]:
    """Listen as a page does, until the context ends."""
    events = Events()
    address = f"ws://127.0.0.1:{server.port}/ws?clientId={server.client_id}"
    # No pings: a node that blocks ComfyUI's loop answers none, and a page sends none either.
    with connect(address, proxy=None, max_size=None, ping_interval=None) as socket:
        events.hear(socket.recv(timeout=10))  # ComfyUI greets; from then on nothing is missed.
        thread = threading.Thread(target=_listen, args=(socket, events), daemon=True)
        thread.start()
        yield events
    thread.join(timeout=10)


def _listen(socket: ClientConnection, events: Events) -> None:
    # A server that was ended by the test says no goodbye.
    with suppress(ConnectionClosedError):
        for message in socket:
            events.hear(message)
