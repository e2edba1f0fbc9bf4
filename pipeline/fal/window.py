"""How many jobs of this process are at fal at once.

fal queues whatever it is sent, so a window does not protect fal: it bounds what Cancel has to take
back and what a crash leaves behind. More than the account's own limit brings nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from ..errors import EditCancelled
from ..host import Phase, Reporter
from .waiting import CANCEL_CHECK_S


class Window:
    """Places for jobs at fal."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = Condition()

    @contextmanager
    def place(self, size: int, host: Reporter) -> Iterator[None]:
        """Hold one of ``size`` places; waits for one, and raises ``EditCancelled`` on Cancel."""
        with self._changed:
            if self._taken >= size:
                host.phase(Phase(f"waiting: {size} edits are at fal", clock="window"))
            while self._taken >= size:
                self._changed.wait(CANCEL_CHECK_S)
                if host.cancelled():
                    raise EditCancelled
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify()


window = Window()
"""One for the process, whatever the number of nodes and lists."""
