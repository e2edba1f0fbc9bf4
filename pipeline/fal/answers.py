"""What fal answers, read with suspicion: keys may be missing, types may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from ..errors import FireRedError, RejectedError, RemoteError, ResultError, clean

LOOK_FIRST = "Look at fal.ai/dashboard before running again: it may finish and be billed."
"""What to do about a job whose outcome is not known here."""

MAX_LOG_LINE = 120

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


@dataclass(frozen=True)
class Job:
    """An accepted job and the addresses its answer named for it."""

    request_id: str
    status_url: str
    response_url: str
    cancel_url: str


@dataclass(frozen=True)
class Status:
    """One state of a job. ``logs`` are lines not seen before."""

    state: State
    queue_position: int | None = None
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A finished job. ``units`` are the billed ones, None where fal does not say."""

    urls: list[str]
    flagged: list[bool]
    seed: int | None
    prompt: str | None
    timings: dict[str, Any] = field(default_factory=dict)
    units: float | None = None


def read_job(response: requests.Response) -> Job:
    """The submit's answer; ``RemoteError`` if it does not name the job."""
    body = read_object(response)
    try:
        return Job(*(str(body[key]) for key in _JOB_KEYS))
    except KeyError as error:
        raise RemoteError(f"fal's answer to the submit lacks {error}.", LOOK_FIRST) from None


_JOB_KEYS = ("request_id", "status_url", "response_url", "cancel_url")


def read_status(body: object) -> Status | None:
    """One status document, from polling or from the stream; None for a state yet unheard of."""
    if not isinstance(body, dict):
        return None
    state = body.get("status")
    if state not in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"):
        return None
    position = body.get("queue_position")
    lines = [line.get("message") for line in log_of(body) if isinstance(line, dict)]
    return Status(
        state,
        position if isinstance(position, int) else None,
        tuple(clean(line, MAX_LOG_LINE) for line in lines if isinstance(line, str)),
    )


def log_of(body: dict[str, Any]) -> list[Any]:
    """The log entries of a status document."""
    return _list(body.get("logs"))


def read_answer(response: requests.Response) -> Answer:
    """The result; ``ResultError`` if it holds no picture."""
    body = read_object(response)
    images, flags = _list(body.get("images")), _list(body.get("has_nsfw_concepts"))
    paired = [
        (image["url"], index < len(flags) and bool(flags[index]))
        for index, image in enumerate(images)
        if isinstance(image, dict) and isinstance(image.get("url"), str)
    ]
    if not paired:
        raise ResultError("fal answered without a picture.", LOOK_FIRST)
    seed, prompt, timings = body.get("seed"), body.get("prompt"), body.get("timings")
    return Answer(
        urls=[url for url, _ in paired],
        flagged=[flag for _, flag in paired],
        seed=seed if isinstance(seed, int) else None,
        prompt=prompt if isinstance(prompt, str) else None,
        timings=timings if isinstance(timings, dict) else {},
        units=_units(response),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _units(response: requests.Response) -> float | None:
    try:
        units = float(response.headers["x-fal-billable-units"])
    except (KeyError, ValueError):
        return None
    return units if math.isfinite(units) else None


def read_object(response: requests.Response) -> dict[str, Any]:
    """The body as a JSON object, else ``RemoteError``."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RemoteError("fal's answer is not readable.", LOOK_FIRST)
    return body


def refusal(response: requests.Response, secret: str) -> FireRedError:
    """The typed error for an answer that is not a success; ``secret`` is taken out of its words."""
    code, words = response.status_code, _words(response).replace(secret, "(key)")
    if code == 401:
        return RejectedError(
            "fal does not know this key.", "Check FAL_KEY at fal.ai/dashboard/keys."
        )
    if code == 403:
        return RejectedError(f"fal refuses this account: {words}.", "See fal.ai/dashboard/billing.")
    if code == 422:
        return RejectedError(f"fal rejected the request: {words}.", "Change that input.")
    if code == 429:
        return RemoteError(
            "fal has too many requests from this account.", "Wait a moment and run again."
        )
    if code == 404:
        return RemoteError("fal no longer knows this job.", "Run the edit again.")
    return RemoteError(f"fal failed with status {code}: {words}.", "Run the edit again later.")


def _words(response: requests.Response) -> str:
    """fal's own words: a sentence, or the fields at fault with what is wrong with each."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.reason or "no reason given"
    if not isinstance(detail, list):
        return str(detail).rstrip(".")
    return "; ".join(_field_words(entry) for entry in detail if isinstance(entry, dict))


def _field_words(entry: dict[str, Any]) -> str:
    location = [str(part) for part in _list(entry.get("loc")) if part != "body"]
    return f"{'.'.join(location) or 'request'}: {entry.get('msg', 'invalid')}"
