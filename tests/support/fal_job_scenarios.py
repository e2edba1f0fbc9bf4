"""Everything that can go wrong once fal has an edit, and what an artist gets run by run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from doubles.fal_server import Fault
from doubles.fal_server.faults import corrupted
from doubles.fal_server.outcomes import INFRASTRUCTURE_ERRORS
from doubles.fal_server.replies import Reply
from support.fal_artist import Scenario
from support.fal_mishaps import (
    EVER,
    all_of,
    animated,
    asking,
    body,
    cancelled_elsewhere,
    document,
    enormous,
    failing,
    move_picture,
    refusing,
    rewriting,
    rewriting_first_run,
    unstreamed,
    widen,
)
from support.fal_scenarios import NEVER, ORDERED_ANEW
from support.fal_trials import Trial

GARBAGE = (b"data: {not json\n\n", b"\xff\xfe\n\n", b"data: 7\n\n", b"event: x\n\n")
DESPAIR = "ResultError > ResultError > ResultError"


def slow(trial: Trial) -> None:
    """A run of three steps, 0.6 s in all."""
    trial.set(trial.server, "run_seconds", 0.6)


def garbled(reply: Reply) -> Reply:
    return replace(reply, events=iter(GARBAGE))


def silent(reply: Reply) -> Reply:
    def events() -> Iterator[bytes]:
        yield b": ping\n\n"
        time.sleep(1.0)

    return replace(reply, events=events())


def unknown_state(answer: dict[str, Any]) -> None:
    answer["status"] = "PAUSED"


STREAM = [
    *(
        Scenario(
            f"stream {status} at first",
            all_of(slow, refusing("stream", status, times=2)),
            "picture",
        )
        for status in (404, 405, 503)
    ),
    Scenario("stream never to be had", all_of(slow, unstreamed), "picture"),
    Scenario("stream reset", all_of(slow, failing("stream", Fault.reset(), 2)), "picture"),
    *(
        Scenario(
            f"stream cut after {count} events",
            all_of(slow, failing("stream", Fault.cut(count), EVER)),
            "picture",
        )
        for count in (0, 1, 3)
    ),
    Scenario("stream silent", all_of(slow, rewriting("stream", silent)), "picture"),
    Scenario("stream of garbage", all_of(slow, rewriting("stream", garbled, 9)), "picture"),
    Scenario("stream never answers", failing("stream", Fault.hang(1.0)), "picture"),
]
_STATUS = [
    Scenario("status 503 five times", refusing("status", 503, times=5), "picture"),
    Scenario("status 404 at first", refusing("status", 404, times=2), "picture"),
    Scenario("status nginx 502", failing("status", Fault.nginx(), 3), "picture"),
    Scenario("status reset", failing("status", Fault.reset(), 3), "picture"),
    Scenario("status cut", failing("status", Fault.truncate(20), 3), "picture"),
    Scenario("status 429", failing("status", Fault.throttle(1)), "picture"),
    Scenario("status is html", rewriting("status", body(b"<html>"), 3), "picture"),
    Scenario(
        "status of a state unheard of",
        rewriting("status", document(unknown_state), 3),
        "picture",
    ),
    Scenario(
        "status 503 for minutes",
        rewriting_first_run("status", lambda _: Reply(503)),
        "RemoteTimeoutError > picture",
    ),
]
STATUS = [replace(each, plan=all_of(unstreamed, each.plan)) for each in _STATUS]

RESULT = [
    Scenario("result nginx 502", failing("result", Fault.nginx(), 2), "picture"),
    Scenario("result 500 without a type", refusing("result", 500, times=2), "picture"),
    Scenario("result cut", failing("result", Fault.truncate(), 2), "picture"),
    Scenario("result reset", failing("result", Fault.reset(), 2), "picture"),
    Scenario("result hangs", failing("result", Fault.hang(1.0)), "picture"),
    Scenario(
        "result 400 once",
        refusing("result", 400, "Request is still in progress"),
        "picture",
    ),
    Scenario("result 404 twice", refusing("result", 404, times=2), "picture"),
    Scenario("result 429", failing("result", Fault.throttle(1)), "picture"),
    Scenario("result 403 once", refusing("result", 403), "AccountError > picture"),
    Scenario("result is html once", rewriting("result", body(b"<html>")), "picture"),
    Scenario(
        "result empty once",
        rewriting("result", body(b"{}")),
        "ResultError > picture",
    ),
    Scenario(
        "result empty for good",
        rewriting("result", body(b"{}"), EVER),
        DESPAIR,
        unusable=True,
    ),
]

ENDS = [
    *(
        Scenario(
            f"job ends: {kind}",
            asking(prompt=f"[error:{kind}]"),
            "JobFailedError > JobFailedError > JobFailedError",
            **NEVER,
        )
        for kind in INFRASTRUCTURE_ERRORS
    ),
    Scenario(
        "cancelled elsewhere, in the queue",
        lambda t: cancelled_elsewhere(t, "queue_seconds", "IN_QUEUE"),
        "JobGoneError > picture",
        **ORDERED_ANEW,
    ),
    Scenario(
        "cancelled elsewhere, running",
        lambda t: cancelled_elsewhere(t, "run_seconds", "IN_PROGRESS"),
        "JobFailedError > picture",
        **ORDERED_ANEW,
    ),
    Scenario(
        "all flagged",
        asking(prompt="[nsfw]"),
        " > ".join(["FlaggedError"] * 3),
        unusable=True,
    ),
    Scenario("one of two flagged", asking(prompt="[nsfw:1]", num_images=2), "picture"),
    Scenario(
        "black throughout",
        lambda t: setattr(t.server, "runner", lambda a, r: [r[0].point(lambda _: 0)]),
        DESPAIR,
        unusable=True,
    ),
]

PICTURE = [
    Scenario("picture 404 twice", failing("get", Fault.answer(404), 2), "picture"),
    Scenario("picture 403 twice", failing("get", Fault.answer(403), 2), "picture"),
    Scenario("picture 503 three times", failing("get", Fault.nginx(503), 3), "picture"),
    Scenario("picture cut", failing("get", Fault.truncate(100), 3), "picture"),
    Scenario("picture reset", failing("get", Fault.reset(), 3), "picture"),
    Scenario("picture hangs", failing("get", Fault.hang(1.0)), "picture"),
    Scenario("picture corrupted twice", failing("get", Fault.corrupt(), 2), "picture"),
    Scenario(
        "picture corrupted for a run",
        failing("get", Fault.corrupt(), 3),
        "ResultError > picture",
    ),
    Scenario(
        "picture redirected once",
        failing("get", Fault.answer(302, None, {"Location": "http://127.0.0.1:9/"})),
        "RemoteError > picture",
    ),
    Scenario("picture animated", rewriting("get", animated), "picture"),
    Scenario(
        "picture of too many pixels",
        rewriting("get", body(enormous()), 3),
        "ResultError > picture",
    ),
    Scenario("picture is html", rewriting("get", body(b"<html>"), 2), "picture"),
    Scenario(
        "picture of another size than declared",
        rewriting("result", document(widen), EVER),
        "picture",
    ),
    Scenario(
        "picture at a foreign host",
        rewriting("result", document(move_picture), EVER),
        "RemoteError > RemoteError > RemoteError",
        unusable=True,
    ),
    Scenario(
        "picture 404 for good",
        rewriting("get", lambda _: Reply(404), EVER),
        DESPAIR,
        unusable=True,
    ),
    Scenario(
        "picture corrupted for good",
        rewriting("get", corrupted, EVER),
        DESPAIR,
        unusable=True,
    ),
]
