"""Everything that can go wrong before fal has an edit, and what an artist gets run by run."""

from __future__ import annotations

from typing import Any

from doubles.fal_server import Fault
from doubles.fal_server.faults import Phase
from support.comfyui import free_port
from support.fal_artist import Scenario
from support.fal_mishaps import (
    EVER,
    FIELDS,
    LOADING,
    all_of,
    asking,
    body,
    document,
    failing,
    forget_upload,
    full_at_the_second_submit,
    full_disk_since,
    full_results,
    in_storage,
    lock_with_the_stream,
    refusing,
    rename_addresses,
    rewriting,
    unread,
    unstreamed,
)
from support.fal_trials import Trial

AGAIN = "{} > picture"
ANEW: dict[str, Any] = {"submits": 2, "accepted": 1}
ORDERED_ANEW: dict[str, Any] = {"submits": 2, "accepted": 2}
NEVER: dict[str, Any] = {"submits": 3, "accepted": 3, "billed": 0}

WAY = [
    Scenario("name not found", Trial.no_names, AGAIN.format("RemoteError")),
    Scenario(
        "connection refused",
        lambda t: t.environ(FAL_QUEUE_RUN_HOST=f"http://127.0.0.1:{free_port()}"),
        AGAIN.format("RemoteError"),
    ),
    Scenario(
        "certificate not trusted",
        lambda t: t.environ(FAL_QUEUE_RUN_HOST=t.server.https_host),
        AGAIN.format("RemoteError"),
    ),
    Scenario(
        "proxy not there",
        lambda t: t.environ(http_proxy=f"http://127.0.0.1:{free_port()}", no_proxy=""),
        AGAIN.format("RemoteError"),
    ),
]
"""Nothing reaches fal."""

ACCOUNT = [
    Scenario("key unknown: 401", refusing("submit", 401), "AccountError > picture", **ANEW),
    Scenario("credit: 402", refusing("submit", 402), "AccountError > picture", **ANEW),
    Scenario(
        "locked: 403", lambda t: t.set(t.server, "locked", True), "AccountError > picture", **ANEW
    ),
    Scenario(
        "locked while it runs",
        lock_with_the_stream,
        "picture",
    ),
    Scenario(
        "key revoked while it runs",
        all_of(unstreamed, refusing("status", 401)),
        "AccountError > picture",
    ),
]
"""Key and credit."""

REFUSED = [
    Scenario("no such model: 404", refusing("submit", 404), "RejectedError > picture", **ANEW),
    Scenario("too large: 413", refusing("submit", 413), "RejectedError > picture", **ANEW),
    Scenario("fields: 422", refusing("submit", 422, FIELDS), "RejectedError > picture", **ANEW),
    Scenario(
        "echo of a data URI: 422",
        refusing("submit", 422, LOADING),
        "RejectedError > picture",
        **ANEW,
    ),
    Scenario("picture not readable there", unread, "RejectedError > picture", **ORDERED_ANEW),
    Scenario(
        "policy",
        asking(prompt="[policy]"),
        "RejectedError > RejectedError > RejectedError",
        **NEVER,
    ),
]
"""fal takes no such edit."""

SUBMIT = [
    Scenario("429, Retry-After 1", failing("submit", Fault.throttle(1)), "picture", submits=2),
    Scenario("429 three times", refusing("submit", 429, times=3), "picture", submits=4),
    Scenario(
        "429 for an hour",
        failing("submit", Fault.throttle(3600)),
        "RemoteError > picture",
        **ANEW,
    ),
    *(
        Scenario(
            f"nginx {status}",
            failing("submit", Fault.nginx(status)),
            "picture",
            submits=2,
        )
        for status in (502, 503, 504)
    ),
    *(
        Scenario(
            f"fal's own {status}",
            refusing("submit", status),
            "UncertainError > picture",
            **ANEW,
        )
        for status in (500, 502, 503)
    ),
    Scenario(
        "reset before it is accepted",
        failing("submit", Fault.reset()),
        "UncertainError > picture",
        **ANEW,
    ),
    Scenario("answer lost", failing("submit", Fault.lose()), "picture"),
    Scenario("answer cut before the id", failing("submit", Fault.truncate(64)), "picture"),
    Scenario("answer cut after the id", failing("submit", Fault.truncate(150)), "picture"),
    Scenario(
        "answer without an id",
        rewriting("submit", document(lambda answer: answer.pop("request_id"))),
        "picture",
    ),
    Scenario("answer is no JSON", rewriting("submit", body(b"<html>")), "picture"),
    Scenario(
        "answer names foreign addresses",
        rewriting("submit", document(rename_addresses)),
        "picture",
    ),
    Scenario("answer slow", failing("submit", Fault.hang(0.3)), "picture"),
    Scenario("answer too slow", failing("submit", Fault.hang(1.0)), "picture"),
    Scenario(
        "answer lost, history away",
        all_of(
            failing("submit", Fault.lose()),
            refusing("history", 400),
        ),
        "UncertainError > picture",
    ),
    Scenario(
        "answer lost, history lags",
        all_of(
            failing("submit", Fault.lose()),
            lambda t: setattr(t.server, "history_lists_running", False),
            lambda t: t.set(t.server, "run_seconds", 0.5),
        ),
        "UncertainError > picture",
    ),
    Scenario(
        "answer lost, history late, sending anew fails",
        all_of(
            failing("submit", Fault.lose()),
            refusing("history", 400, times=2),
            full_at_the_second_submit,
        ),
        "UncertainError > JournalError > picture",
    ),
]
"""On the way to a request id."""

STORAGE = [
    Scenario(
        "token refused: 401",
        all_of(in_storage, refusing("token", 401)),
        "AccountError > picture",
    ),
    Scenario("token 500 once", all_of(in_storage, refusing("token", 500)), "picture"),
    Scenario(
        "token 500 for good: by the other way",
        all_of(in_storage, refusing("token", 500, times=EVER)),
        "picture",
    ),
    Scenario("upload 500 once", all_of(in_storage, refusing("upload", 500)), "picture"),
    Scenario(
        "upload answer lost",
        all_of(in_storage, failing("upload", Fault.lose())),
        "picture",
    ),
    Scenario(
        "upload answer cut",
        all_of(in_storage, failing("upload", Fault.truncate(9))),
        "picture",
    ),
    Scenario(
        "upload too large: 413",
        all_of(in_storage, refusing("upload", 413)),
        "InputError > picture",
    ),
    Scenario(
        "storage away",
        all_of(
            in_storage,
            lambda t: t.environ(FAL_REST_HOST=f"http://127.0.0.1:{free_port()}"),
        ),
        "RemoteError > picture",
    ),
    Scenario(
        "upload not there for the runner",
        all_of(in_storage, rewriting("upload", document(forget_upload))),
        "RejectedError > picture",
        **ORDERED_ANEW,
    ),
]
"""On the way of a reference to fal."""

LATER_PHASES: tuple[Phase, ...] = ("submit", "stream", "result", "get")

DISK = [
    Scenario("journal full", Trial.full_disk, "JournalError > picture"),
    *(
        Scenario(
            f"journal full since the {phase}",
            full_disk_since(phase),
            "picture > picture",
            once_more=True,
        )
        for phase in LATER_PHASES
    ),
    Scenario(
        "journal full before the submit",
        all_of(in_storage, full_disk_since("upload")),
        "JournalError > picture",
    ),
    Scenario("no room for pictures", full_results, "picture > picture", once_more=True),
]
"""On this machine."""
