"""What ComfyUI tells a connected page while a workflow runs."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import ClientConnection, connect

from support.comfyui import ComfyUI

TEXT_EVENT = 3
"""ComfyUI's number for a binary message that carries the text shown on a node."""


@dataclass
class Events:
    """Everything heard so far, in order."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

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
        elif struct.unpack(">I", message[:4])[0] == TEXT_EVENT:
            (length,) = struct.unpack(">I", message[4:8])
            self.texts.append(message[8 + length :].decode())


@contextmanager
def listening(server: ComfyUI) -> Iterator[Events]:
    """Listen as a page does, until the context ends."""
    events = Events()
    address = f"ws://127.0.0.1:{server.port}/ws?clientId={server.client_id}"
    with connect(address, proxy=None, max_size=None) as socket:
        events.hear(socket.recv(timeout=10))  # ComfyUI greets; from then on nothing is missed.
        thread = threading.Thread(target=_listen, args=(socket, events), daemon=True)
        thread.start()
        yield events
    thread.join(timeout=10)


def _listen(socket: ClientConnection, events: Events) -> None:
    for message in socket:
        events.hear(message)
