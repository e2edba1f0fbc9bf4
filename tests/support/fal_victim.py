"""Edits on fal in processes that die where they are told to.

Each line of JSON on stdin is an ``Errand``. It is run in a fork of this process, which has imported
everything and opened nothing; a line of JSON on stdout tells its outcome, unless it died before,
and another one the status it ended with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.errors import FireRedError  # noqa: E402
from firered_edit.pipeline.fal.backlog import Backlog  # noqa: E402
from firered_edit.pipeline.fal.collecting import collector_in  # noqa: E402
from firered_edit.pipeline.fal.engine import FalEngine  # noqa: E402
from firered_edit.pipeline.fal.journal import Journal  # noqa: E402
from firered_edit.pipeline.fal.journal.results import Results  # noqa: E402
from firered_edit.pipeline.fal.pacing import RunPace  # noqa: E402
from firered_edit.pipeline.fal.payload import FalOptions  # noqa: E402
from firered_edit.pipeline.fal.protocol.client import FalClient  # noqa: E402
from support.fal_artist import PICTURE  # noqa: E402
from support.fal_fixtures import Listener, Unfinished  # noqa: E402
from support.fal_trials import hurry, small_edit, wanted  # noqa: E402

COLLECT_S = 1.0
"""How long the start-up collector is given; what it can bring home it does in a moment."""

POSTED_S = 0.2
"""A submit has reached a loopback fal by then."""


@dataclass(frozen=True)
class Errand:
    """What a process is to do: an edit of this ``seed``, or to ``collect`` what others left.

    It dies at ``point``, if that is named.
    """

    environ: dict[str, str]
    seed: int = 7
    collect: bool = False
    point: str = ""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    # Other threads may go on for a moment; this one does not.
    time.sleep(60.0)


def _before(owner: Any, name: str) -> Callable[[], None]:
    return lambda: _wrap(owner, name, lambda *_: _die(), lambda *_: None)


def _after(owner: Any, name: str) -> Callable[[], None]:
    return lambda: _wrap(owner, name, lambda *_: None, lambda *_: _die())


def _wrap(owner: Any, name: str, before: Callable[..., None], after: Callable[..., None]) -> None:
    genuine = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        before(*given)
        value = genuine(*given, **named)
        after(*given)
        return value

    setattr(owner, name, wrapped)


def _while(state: str) -> Callable[[], None]:
    """When fal says that the job is in ``state``."""

    def die(_: Any, said: str) -> None:
        if said == state:
            _die()

    return lambda: _wrap(RunPace, "note", die, lambda *_: None)


def _soon_after_the_submit() -> None:
    def start(*_: Any) -> None:
        threading.Timer(POSTED_S, _die).start()

    _wrap(FalClient, "submit", start, lambda *_: None)


TRAPS: dict[str, Callable[[], None]] = {
    "before it is claimed": _before(Journal, "claim"),
    "claimed": _after(Journal, "claim"),
    "packed, not noted as sent": _before(Journal, "submitting"),
    "noted as sent, not sent": _after(Journal, "submitting"),
    "sent, not answered": _soon_after_the_submit,
    "accepted, not noted": _before(Journal, "accepted"),
    "accepted and noted": _after(Journal, "accepted"),
    "in fal's queue": _while("IN_QUEUE"),
    "running at fal": _while("IN_PROGRESS"),
    "completed, result not asked for": _before(FalClient, "result"),
    "result here, not noted": _before(Journal, "answered"),
    "result noted": _after(Journal, "answered"),
    "picture here, not on disk": _after(FalClient, "download"),
    "picture on disk, not noted": _after(Results, "store"),
    "picture noted": _after(Journal, "stored"),
    "returned, run not over": _after(FalEngine, "edit"),
}


def _edit(errand: Errand) -> str:
    # Whose run never ends: what it was given counts as delivered only once it is told so.
    host = Unfinished() if errand.point else Listener()
    try:
        asked = replace(small_edit(), seed=errand.seed)
        images = FalEngine(host).edit(asked, FalOptions()).images
    except FireRedError as error:
        return type(error).__name__
    return PICTURE if torch.equal(images[0], wanted(asked)) else "another picture"


def _collect(errand: Errand) -> str:
    """What the list of edits on fal shows after a start; "nothing" where it is empty."""
    folder = Path(errand.environ["FIRERED_DATA_DIR"])
    collector_in(folder).follow_all()
    backlog, deadline = Backlog(folder), time.monotonic() + COLLECT_S
    while not all(job.ready for job in backlog.waiting()) and time.monotonic() < deadline:
        time.sleep(0.02)
    listed = backlog.waiting()
    for job in listed:
        if job.ready:
            (picture,) = backlog.pictures(job.key)
            if not torch.equal(picture, wanted(replace(small_edit(), seed=job.seed))):
                return "another picture"
    return ", ".join(job.state for job in listed) or "nothing"


def _carry_out(errand: Errand) -> None:
    os.environ.update(errand.environ)
    with ExitStack() as stack:
        hurry(stack)
        if errand.point:
            TRAPS[errand.point]()
        outcome = _collect(errand) if errand.collect else _edit(errand)
    _tell({"outcome": outcome})


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _carry_out(Errand(**json.loads(line)))
            except BaseException as error:  # noqa: BLE001 - a fork must not return into the loop
                _tell({"outcome": f"unexpected {type(error).__name__}: {error}"})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _tell({"ended": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
