"""What the scenarios do to an answer of fal, to the way there, or to this machine."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import requests
from PIL import Image

from doubles.fal_server import Fault, app
from doubles.fal_server.faults import Phase
from doubles.fal_server.replies import Reply
from doubles.fal_server.settings import APP_ID
from firered_edit.pipeline.errors import JournalError
from firered_edit.pipeline.fal.journal import Journal
from firered_edit.pipeline.fal.journal.results import Results
from firered_edit.pipeline.fal.uploads import sending, storage
from support.comfyui import wait_until
from support.fal_trials import Change, Plan, Trial

EVER = 99
"""Times: more often than anything is asked for."""

ELSEWHERE = "https://pictures.example"

LOCKED = "User is locked. Reason: Exhausted balance."
LOADING = "Could not load image from url: data:image/png;base64," + "iVBORw0KGgo" * 20_000
FIELDS = [{"loc": ["body", "guidance_scale"], "msg": "Input should be less", "type": "x"}]


def refusing(phase: Phase, status: int, detail: Any = "no", times: int = 1) -> Plan:
    return lambda trial: trial.refuse(phase, status, detail, times)


def failing(phase: Phase, fault: Fault, times: int = 1) -> Plan:
    return lambda trial: trial.fail(phase, fault, times)


def rewriting(phase: Phase, change: Change, times: int = 1) -> Plan:
    return lambda trial: trial.rewrite(phase, change, times)


def rewriting_first_run(phase: Phase, change: Change) -> Plan:
    return lambda trial: trial.rewrite_first_run(phase, change)


def asking(**changes: Any) -> Plan:
    return lambda trial: trial.ask(**changes)


def full_disk_since(phase: Phase) -> Plan:
    return lambda trial: trial.full_disk(phase)


def all_of(*plans: Plan) -> Plan:
    """Several at once."""

    def plan(trial: Trial) -> None:
        for each in plans:
            each(trial)

    return plan


def document(change: Callable[[dict[str, Any]], object]) -> Change:
    """The same answer with its JSON changed."""

    def changed(reply: Reply) -> Reply:
        body = json.loads(reply.body)
        change(body)
        return replace(reply, body=json.dumps(body).encode())

    return changed


def body(data: bytes) -> Change:
    """An answer with another body."""
    return lambda reply: replace(reply, body=data)


def rename_addresses(answer: dict[str, Any]) -> None:
    for name in ("status_url", "response_url", "cancel_url"):
        answer[name] = f"{ELSEWHERE}/{name}"


def widen(answer: dict[str, Any]) -> None:
    answer["images"][0]["width"] += 1


def move_picture(answer: dict[str, Any]) -> None:
    answer["images"][0]["url"] = f"{ELSEWHERE}/1.png"


def forget_upload(answer: dict[str, Any]) -> None:
    answer["access_url"] += ".gone"


def animated(reply: Reply) -> Reply:
    with Image.open(io.BytesIO(reply.body)) as opened:
        frame = opened.convert("RGB")
    buffer = io.BytesIO()
    second = Image.new("RGB", frame.size)
    frame.save(buffer, "WEBP", lossless=True, save_all=True, append_images=[second], duration=50)
    return replace(reply, body=buffer.getvalue())


def enormous() -> bytes:
    """A PNG of a few bytes that declares 60000x60000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk


def cancelled_elsewhere(trial: Trial, name: str, state: str) -> None:
    """Somebody cancels the job in fal's dashboard once it is in ``state``."""
    server = trial.server
    server.cancellable = True
    trial.set(server, name, 60.0)

    def cancel(reply: Reply) -> Reply:
        wait_until(lambda: server.jobs[-1].state == state)
        url = f"{server.url}/{APP_ID}/requests/{server.jobs[-1].request_id}/cancel"
        requests.put(url, headers={"Authorization": f"Key {server.key}"}, timeout=5)
        return reply

    trial.rewrite("stream", cancel)


def lock_with_the_stream(trial: Trial) -> None:
    """The account runs out of credit once the job is accepted."""

    def lock(reply: Reply) -> Reply:
        trial.server.locked = True
        return reply

    trial.rewrite("stream", lock)


def unstreamed(trial: Trial) -> None:
    trial.refuse("stream", 405, times=EVER)


def in_storage(trial: Trial) -> None:
    """Let pictures travel by fal's storage, however small."""
    trial.whole.enter_context(mock.patch.object(sending, "INLINE_LIMIT", 0))
    trial.whole.enter_context(mock.patch.object(storage, "TOKEN_PATIENCE_S", 0.3))
    trial.whole.enter_context(mock.patch.object(storage, "UPLOAD_PATIENCE_S", 0.6))


def unread(trial: Trial) -> None:
    def unreadable(_: bytes) -> Image.Image:
        raise OSError("cannot identify image file")

    trial.set(app, "decode", unreadable)


def full_results(trial: Trial) -> None:
    """No room for pictures in the first run."""

    def full(*_: Any) -> str:
        raise JournalError("The result cannot be kept: No space left.", "Make room.")

    trial.set(Results, "store", full)


def full_at_the_second_submit(trial: Trial) -> None:
    genuine, turns = Journal.submitting, iter([False, True])

    def submitting(*given: Any) -> None:
        if next(turns, False):
            raise JournalError("The journal of paid edits cannot be used: disk full.", "Make room.")
        genuine(*given)

    trial.whole.enter_context(mock.patch.object(Journal, "submitting", submitting))
