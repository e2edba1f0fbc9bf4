"""What the nodes of the run show: their text, with a clock that ticks, and their bar.

One thread for the process sees to the clocks. It lives while an edit does, and what an edit tells
after its node is through is not shown: ComfyUI's page keeps the last text on the node.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Lock, RLock, Thread
from typing import Any

import comfy.model_management
import comfy.utils
from server import PromptServer

from ...pipeline.board import Board, Outcome, Slot
from ...pipeline.host import Phase
from . import cancelling

TICK_S = 0.25
"""How often the clocks are looked at; a text is sent only where it changed."""

PER_SECOND = 4
"""Texts, and positions of the bar, of one node in any second."""


class Display:
    """Text and bar of one node in one run, on the page that started it."""

    def __init__(self, run_id: str, node_id: str) -> None:
        self.board = Board()
        self._run_id = run_id
        self._node_id = node_id
        # Nobody else's: another page may have a node of the same number.
        self._client: str | None = PromptServer.instance.client_id
        self._lock = RLock()
        self._shown = ""
        self._texts, self._bars = _Limit(), _Limit()

    @property
    def waits(self) -> bool:
        """Whether the text may have to change without a word from an edit."""
        with self._lock:
            return not self.board.over or self.board.text() != self._shown

    def show(self) -> None:
        """Send the text if it changed; one that comes too soon is sent with a later tick."""
        # Made and sent under one lock: of two threads the later one knows more.
        with self._lock:
            text = self.board.text()
            # How it ended must not come after the end of the run: a place is kept for that.
            spare = 0 if self.board.over else 1
            if text in ("", self._shown) or not self._texts.allows(spare):
                return
            self._shown = text
            if self._client is None or not cancelling.is_current(self._run_id):
                return
            # Nodes 2.0 reads it as Markdown, where only two trailing spaces keep a line break.
            shown = text.replace("\n", "  \n")
            PromptServer.instance.send_progress_text(shown, self._node_id, self._client)

    def show_bar(self, preview: Any | None) -> None:
        """Move the bar, with the picture in the making where there is one."""
        with self._lock:
            value, total = self.board.bar()
            if self.board.over or not cancelling.is_current(self._run_id):
                return
            if preview is None and value < total and not self._bars.allows():
                return
            try:
                bar = comfy.utils.ProgressBar(total, node_id=self._node_id)
                bar.update_absolute(value, total, preview)
            except comfy.model_management.InterruptProcessingException:
                # The bar looks at the flag and clears it; the engine asks when it is safe to stop.
                cancelling.remember_cancel(self._run_id)


class Ticket:
    """One edit's part in the display of its node."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._slot: Slot = display.board.enter()

    def phase(self, phase: Phase) -> None:
        self._display.board.tell(self._slot, phase)
        self._show()

    def say(self, text: str) -> None:
        self._display.board.say(self._slot, text)
        self._show()

    def leave(self, outcome: Outcome, words: str = "") -> None:
        """The edit is over for its node; what it then shows stays."""
        self._display.board.leave(self._slot, outcome, words)
        self._show()

    def progress(self, value: int, total: int, preview: Any | None) -> None:
        self._display.board.advance(self._slot, value, total)
        self._display.show_bar(preview)

    def _show(self) -> None:
        self._display.show()
        _displays.wake()


class _Limit:
    """At most ``PER_SECOND`` in any second."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque()

    def allows(self, spare: int = 0) -> bool:
        """Whether one more may be sent; ``spare`` places are left for others."""
        now = time.monotonic()
        while self._sent and now - self._sent[0] >= 1:
            self._sent.popleft()
        if len(self._sent) >= PER_SECOND - spare:
            return False
        self._sent.append(now)
        return True


class _Displays:
    """Those of the current run, and the thread that ticks for them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: dict[tuple[str, str], Display] = {}
        self._ticking = False

    def enter(self, run_id: str, node_id: str) -> Ticket:
        """A place for one more edit of a node."""
        with self._lock:
            for key in [key for key in self._of if key[0] != run_id]:
                del self._of[key]
            if (run_id, node_id) not in self._of:
                self._of[run_id, node_id] = Display(run_id, node_id)
            ticket = Ticket(self._of[run_id, node_id])
        self.wake()
        return ticket

    def wake(self) -> None:
        """Tick, as long as there is something to tick for."""
        with self._lock:
            if self._ticking or not self._waiting():
                return
            self._ticking = True
        Thread(target=self._tick, name="firered-clock", daemon=True).start()

    def _waiting(self) -> list[Display]:
        return [display for display in self._of.values() if display.waits]

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            with self._lock:
                waiting = self._waiting()
                if not waiting:
                    self._ticking = False
                    return
            for display in waiting:
                display.show()


_displays = _Displays()


def enter(run_id: str, node_id: str) -> Ticket:
    """A place for one more edit of a node in the run."""
    return _displays.enter(run_id, node_id)
