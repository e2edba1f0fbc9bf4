"""Edits on a fal whose answers are made wrong at random, and the rules that they must keep."""

from __future__ import annotations

import base64
import logging
import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from doubles.fal_server import FalServer, Fault, routes
from doubles.fal_server.desk import Desk
from doubles.fal_server.faults import Phase
from doubles.fal_server.replies import Call, Reply
from firered_edit.pipeline.errors import MAX_LENGTH, EditCancelled, FireRedError
from firered_edit.pipeline.fal import cancelling
from firered_edit.pipeline.fal.backlog import Backlog
from firered_edit.pipeline.fal.protocol import client, history, reading, submitting, transport
from firered_edit.pipeline.fal.uploads import sending, storage, tokens
from firered_edit.pipeline.images import encode_png
from firered_edit.pipeline.request import EditRequest
from support.comfyui import wait_until
from support.fal_artist import MOST_RUNS, PICTURE, SETTLED
from support.fal_fixtures import Listener, edit, forget
from support.fal_trials import hurry, signed, small_edit, wanted
from support.fuzz_json import KEY, SECRET
from support.fuzz_replies import Wrong, ways

PHASES: tuple[Phase, ...] = (
    *("submit", "stream", "status", "result", "get", "history"),
    *("token", "upload", "initiate", "cancel"),
)

MOST_SECONDS = 8.0
"""For one run of an edit, with every pause and patience made short."""

MEBIBYTE = 1024 * 1024

_SHORT: list[tuple[Any, str, Any]] = [
    (reading, "READ_PATIENCE_S", 0.5),
    (submitting, "SUBMIT_PATIENCE_S", 0.5),
    (history, "FIND_PATIENCE_S", 0.3),
    (history, "FIND_TIMEOUT_S", (2.0, 0.5)),
    (client, "CANCEL_TIMEOUT_S", (2.0, 0.5)),
    (storage, "TOKEN_PATIENCE_S", 0.15),
    (storage, "UPLOAD_PATIENCE_S", 0.4),
    (tokens, "REFUSAL_S", 0.0),
    (cancelling, "ANSWER_S", 0.3),
    (transport, "MAX_JSON_BYTES", 4 * MEBIBYTE),
    (reading, "MAX_PICTURE_BYTES", 4 * MEBIBYTE),
]
_LIES: dict[Phase, frozenset[int]] = {"submit": frozenset({405, 429}), "upload": frozenset()}
"""fal's word that it has not accepted what it has: nobody could know better."""

_STORAGE: frozenset[Phase] = frozenset({"token", "upload", "initiate"})


_ports: set[int] = set()
"""Of every loopback fal there was: one that is gone may still be asked for what it left undone."""


@dataclass(frozen=True)
class Met:
    """What came of one wrong answer. ``broken`` are the rules it broke, in words."""

    number: int
    phase: Phase
    way: str
    outcomes: list[str]
    broken: list[str]
    seconds: float

    def __str__(self) -> str:
        outcomes = " > ".join(self.outcomes)
        return f"trial {self.number}: {self.phase}, {self.way}: {outcomes}: {self.broken}"


@dataclass
class Watched:
    """What must not be, as it is seen while edits run."""

    strangers: list[str] = field(default_factory=list)
    """Hosts that were asked for and must not be."""
    logged: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    """Errors that ended a thread."""

    def look_up(self, genuine: Callable[..., Any]) -> Callable[..., Any]:
        """``socket.getaddrinfo`` without a way out of this machine."""

        def resolve(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
            if host == "127.0.0.1" and port in _ports:
                return genuine(host, port, *rest, **named)
            if not _is_fals(str(host)):
                self.strangers.append(f"{host}:{port}")
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        return resolve

    def died_of(self, given: threading.ExceptHookArgs) -> None:
        self.died.append(repr(given.exc_value))


def _is_fals(host: str) -> bool:
    return host.endswith((".fal.media", ".fal.run", ".fal.ai")) or host in routes.INTERCEPTED_HOSTS


class _Ears(logging.Handler):
    """Hears everything that is logged, by whomever."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._words = words
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._words.append(self.format(record))


class Fuzz:
    """A loopback fal and one journal, for any number of trials. ``seed`` decides all of them."""

    def __init__(self, server: FalServer, folder: Path, seed: int) -> None:
        self.server = server
        self.folder = folder
        self.seed = seed
        self.watched = Watched()
        _ports.add(server.port)

    def meet(self, number: int, phase: Phase | None = None, way: Wrong | None = None) -> Met:
        """Let an artist meet a wrong answer in an edit, and queue that edit again."""
        rng = random.Random(f"{self.seed} {number}")
        chosen = phase or rng.choice(PHASES)
        wrong = way or rng.choice(ways(chosen))
        began = time.monotonic()
        with ExitStack() as stack:
            trial = _Trial(self, number, chosen, stack, rng)
            trial.put_wrong(wrong.change)
            trial.run()
            stack.close()
            trial.run_again()
        return Met(
            number, chosen, wrong.name, trial.outcomes, trial.judged(), time.monotonic() - began
        )


class _Trial:
    """One edit of its own, told by its prompt. ``stack`` holds what is wrong in the first run."""

    def __init__(
        self, fuzz: Fuzz, number: int, phase: Phase, stack: ExitStack, rng: random.Random
    ) -> None:
        self._server = fuzz.server
        self._watched = fuzz.watched
        self._folder = fuzz.folder
        self._phase = phase
        self._stack = stack
        self._rng = rng
        self._asked = replace(small_edit(number % 2**32), prompt=f"look {number}")
        self._first_request = len(fuzz.server.requests)
        self.outcomes: list[str] = []
        self._broken: list[str] = []
        for words in (fuzz.watched.logged, fuzz.watched.strangers, fuzz.watched.died):
            words.clear()

    def put_wrong(self, change: Callable[[Reply, random.Random], Reply]) -> None:
        turns = iter(range(self._rng.choice((1, 1, 2, 99))))
        genuine = Desk.answer

        def answer(desk: Desk, call: Call) -> Reply:
            try:
                reply = genuine(desk, call)
            except ValueError:
                # Asked for what it was made to say before, such as a page that does not exist.
                return Reply.detail(400, "Bad Request")
            if routes.find(call)[0] != self._phase or next(turns, None) is None:
                return reply
            changed = change(reply, self._rng)
            return reply if changed.status in _LIES.get(self._phase, ()) else changed

        self._stack.enter_context(mock.patch.object(Desk, "answer", answer))
        self._lead_to_it()

    def _lead_to_it(self) -> None:
        """Let the edit come by where the wrong answer is."""
        if self._phase in _STORAGE:
            self._stack.enter_context(mock.patch.object(sending, "INLINE_LIMIT", 0))
        if self._phase == "initiate":
            self._server.fail("token", Fault.answer(500), 2)
        if self._phase == "status":
            self._server.fail("stream", Fault.answer(405), 1)
        if self._phase == "history":
            self._server.fail("submit", Fault.lose())
        if self._phase == "cancel":
            self._stack.enter_context(mock.patch.object(self._server, "run_seconds", 0.2))

    def run(self) -> None:
        host = Listener(self._cancel_when())
        began, words, remedy = time.monotonic(), "", ""
        try:
            result = edit(self._asked, host)
            host.say(result.receipt.to_json())
            right = all(torch.equal(image, wanted(self._asked)) for image in result.images)
            outcome = PICTURE if right else "another picture"
        except EditCancelled:
            outcome = "EditCancelled"
        except FireRedError as error:
            outcome, words, remedy = type(error).__name__, str(error), error.remedy
        except Exception as error:  # noqa: BLE001 - that there is none is what is asked
            outcome, words = f"unnamed {error!r:.300}", repr(error)
        self.outcomes.append(outcome)
        self._check(words, remedy, host.said, time.monotonic() - began)

    def _cancel_when(self) -> Callable[[], bool]:
        if self._phase != "cancel" or self.outcomes:
            return lambda: False
        return lambda: any(job.state == "IN_PROGRESS" for job in self._jobs())

    def run_again(self) -> None:
        """As whoever reads an error first queues the same again some moments later."""
        wait_until(lambda: all(job.state in SETTLED for job in self._jobs()))
        while len(self.outcomes) < MOST_RUNS and self.outcomes[-1] != PICTURE:
            self.run()

    def _jobs(self) -> list[Any]:
        return [job for job in self._server.jobs if job.arguments["prompt"] == self._asked.prompt]

    def _check(self, words: str, remedy: str, said: list[str], seconds: float) -> None:
        """The rules of one run."""
        if self.outcomes[-1].startswith(("unnamed", "another")):
            self._broken.append(self.outcomes[-1])
        if words and not (remedy and words.endswith(remedy) and len(words) <= MAX_LENGTH):
            self._broken.append(f"an error without advice, or too long: {words[:400]!r}")
        if seconds > MOST_SECONDS:
            self._broken.append(f"took {seconds:.1f} s")
        self._broken += leaks({"error": [words], "node": said}, self._asked)
        if unsaid := [text for text in (words, *said) if not _can_be_told(text)]:
            self._broken.append(f"cannot be shown: {unsaid[0][:100]!r}")

    def judged(self) -> list[str]:
        """The rules of all runs together."""
        jobs, watched = self._jobs(), self._watched
        billed = sum(job.units > 0 for job in jobs)
        broken = list(self._broken)
        if billed > 1:
            broken.append(f"billed {billed} times")
        if billed and PICTURE not in self.outcomes and not self._is_fals_last_word():
            broken.append("paid and lost")
        if watched.strangers:
            broken.append(f"strangers were asked: {watched.strangers}")
        if watched.died:
            broken.append(f"a thread died: {watched.died}")
        if any(request.had_key for request in self._requests("get", "upload")):
            broken.append("the key was shown with a picture")
        broken += leaks({"log": watched.logged}, self._asked)
        return broken + journal_defects(self._folder, self._asked)

    def _requests(self, *phases: Phase) -> list[Any]:
        made = self._server.requests[self._first_request :]
        return [request for request in made if request.phase in phases]

    def _is_fals_last_word(self) -> bool:
        """fal has said that the picture is withheld, which is an end."""
        return "FlaggedError" in self.outcomes


def leaks(told: dict[str, list[str]], asked: EditRequest) -> list[str]:
    """Where a secret or a picture is in what was told."""
    picture = base64.b64encode(encode_png(asked.references[0].pixels)).decode()[60:120]
    secrets = {"the key": SECRET, "a data URI": "data:image", "a picture": picture}
    return [
        f"{name} in the {place}: {text[:300]!r}"
        for place, texts in told.items()
        for name, secret in secrets.items()
        for text in texts
        if secret in text
    ]


def _can_be_told(text: str) -> bool:
    """Whether it can leave this process at all, and is of a length that somebody reads."""
    try:
        return len(text.encode()) < 20_000
    except UnicodeEncodeError:
        return False


def journal_defects(folder: Path, asked: EditRequest) -> list[str]:
    """What is wrong with the journal, its database or what it says."""
    file = folder / "journal.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        (state,) = db.execute("PRAGMA quick_check").fetchone()
        rows = db.execute("SELECT * FROM jobs WHERE prompt = ?", [asked.prompt]).fetchall()
    defects = [] if state == "ok" else [f"the journal is damaged: {state}"]
    if len(rows) > 1:
        defects.append(f"{len(rows)} rows of one edit")
    text = repr(rows)
    if len(text) > MEBIBYTE:
        defects.append(f"a row of {len(text)} characters")
    try:
        Backlog(folder).waiting()
        spent = Backlog(folder).spent_today()
    except Exception as error:  # noqa: BLE001 - that there is none is what is asked
        return [*defects, f"the journal cannot be read: {error!r:.300}"]
    if not 0 <= spent < 1e6:
        defects.append(f"spent {spent:g} today")
    return defects + leaks({"journal": [text]}, asked)


@contextmanager
def fuzzing(folder: Path, seed: int) -> Iterator[Fuzz]:
    """A stage for trials; nothing leaves this machine while it stands."""
    with FalServer(runner=signed, key=KEY) as server, ExitStack() as stack:
        environ = {**server.environment, "FIRERED_DATA_DIR": str(folder)}
        stack.enter_context(mock.patch.dict(os.environ, environ))
        stack.callback(forget)
        hurry(stack)
        for owner, name, value in _SHORT:
            stack.enter_context(mock.patch.object(owner, name, value))
        fuzz = Fuzz(server, folder, seed)
        watched = fuzz.watched
        resolver = watched.look_up(socket.getaddrinfo)
        stack.enter_context(mock.patch.object(socket, "getaddrinfo", resolver))
        stack.enter_context(mock.patch.object(threading, "excepthook", watched.died_of))
        stack.enter_context(_listening(watched.logged))
        yield fuzz


@contextmanager
def _listening(words: list[str]) -> Iterator[None]:
    root, ears = logging.getLogger(), _Ears(words)
    level = root.level
    root.addHandler(ears)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(ears)
        root.setLevel(level)
