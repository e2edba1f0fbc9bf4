"""How a run ended. ComfyUI tells its page and its history, and no node."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock, Thread

from server import PromptServer

LOOK_S = 0.2
"""How often the history is looked at while somebody wants to know."""

_lock = Lock()
_waiting: dict[str, list[Callable[[bool], None]]] = {}


def when_run_ends(run_id: str, tell: Callable[[bool], None]) -> None:
    """Call ``tell`` on another thread when the run is over, with whether it went well."""
    with _lock:
        begin = not _waiting
        _waiting.setdefault(run_id, []).append(tell)
    if begin:
        Thread(target=_watch, name="firered-run-end", daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(LOOK_S)
        with _lock:
            runs = list(_waiting)
        for run_id in runs:
            ended = _ended(run_id)
            if ended is not None:
                _tell(run_id, ended)
        with _lock:
            if not _waiting:
                return


def _ended(run_id: str) -> bool | None:
    """Whether the run went well; None while it goes on."""
    queue = PromptServer.instance.prompt_queue
    # Asked first: a run that ends between the two is then in the history.
    running = any(task[1] == run_id for task in queue.get_current_queue_volatile()[0])
    found = queue.get_history(prompt_id=run_id, map_function=lambda entry: entry["status"])
    if run_id in found:
        status = found[run_id]
        return bool(status and status["status_str"] == "success")
    # Cleared from the history before it was seen: nobody knows, and asking costs least.
    return None if running else False


def _tell(run_id: str, well: bool) -> None:
    with _lock:
        told = _waiting.pop(run_id)
    for tell in told:
        tell(well)
