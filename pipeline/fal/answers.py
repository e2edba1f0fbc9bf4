"""What fal answers, read with suspicion: keys may be missing, types may be off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from ..errors import FireRedError, RejectedError, RemoteError, ResultError

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
        raise RemoteError(
            f"fal's answer to the submit lacks {error}; the job may run and be billed.",
            "Look at fal.ai/dashboard before running again.",
        ) from None


_JOB_KEYS = ("request_id", "status_url", "response_url", "cancel_url")


def read_status(body: dict[str, Any]) -> Status | None:
    """One status document, from polling or from the stream; None for a state yet unheard of."""
    state = body.get("status")
    if state not in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"):
        return None
    position = body.get("queue_position")
    logs = body.get("logs") or []
    lines = tuple(str(line.get("message", "")) for line in logs if isinstance(line, dict))
    return Status(state, position if isinstance(position, int) else None, lines)


def read_answer(response: requests.Response) -> Answer:
    """The result; ``ResultError`` if it holds no picture."""
    body = read_object(response)
    images = body.get("images") or []
    urls = [image["url"] for image in images if isinstance(image, dict) and image.get("url")]
    if not urls:
        raise ResultError("fal answered without a picture.", "Run the edit again.")
    flagged = [bool(flag) for flag in body.get("has_nsfw_concepts") or []]
    seed = body.get("seed")
    return Answer(
        urls=urls,
        flagged=(flagged + [False] * len(urls))[: len(urls)],
        seed=seed if isinstance(seed, int) else None,
        prompt=body.get("prompt"),
        timings=body.get("timings") or {},
        units=_units(response),
    )


def _units(response: requests.Response) -> float | None:
    try:
        return float(response.headers["x-fal-billable-units"])
    except (KeyError, ValueError):
        return None


def read_object(response: requests.Response) -> dict[str, Any]:
    """The body as a JSON object, else ``RemoteError``."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RemoteError("fal's answer is not readable.", "Run the edit again.")
    return body


def refusal(response: requests.Response) -> FireRedError:
    """The typed error for an answer that is not a success."""
    code, words = response.status_code, _words(response)
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
        detail = response.json().get("detail", "")
    except (ValueError, AttributeError):
        return response.reason or "no reason given"
    if not isinstance(detail, list):
        return str(detail).rstrip(".")
    return "; ".join(_field_words(entry) for entry in detail if isinstance(entry, dict))


def _field_words(entry: dict[str, Any]) -> str:
    location = [str(part) for part in entry.get("loc", []) if part != "body"]
    return f"{'.'.join(location) or 'request'}: {entry.get('msg', 'invalid')}"
