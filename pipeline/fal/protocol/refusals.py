"""fal's refusals and failures as errors with words of our own.

Of fal's words only those meant for people are shown, and of these nothing that is long, secret, or
would make ComfyUI take the error for one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from ...errors import AccountError, JobFailedError, RejectedError, RemoteError, clean
from .answers import MAX_WORDS, read_object
from .transport import Reply

ACCOUNT = frozenset({401, 402, 403})
REJECTED = frozenset({400, 404, 405, 413, 415, 422})

_MAX_WORDS = 180
_POLICY = "content_policy_violation"
_LONG = re.compile(r"\S{80,}")
_TYPE = re.compile(r"[a-z0-9_]{1,40}")

_DIALOGS = re.compile(
    "Unauthorized: Please login|Payment Required:|Rate Limit Exceeded:|flagged for content policy"
    "|flagged by our content moderation|CUDA out of memory|Allocation on device"
    "|Field 'prompt' cannot be empty",
    re.IGNORECASE,
)
"""ComfyUI opens dialogs of its own, about its own accounts and memory, for errors with these."""

_OUTCOMES = {
    "request_timeout": "The edit did not start at fal in the time allowed",
    "startup_timeout": "The machine at fal did not start in time",
    "client_cancelled": "The edit was cancelled at fal",
    "client_disconnected": "The edit was cancelled at fal",
    "runner_scheduling_failure": "fal found no machine for the edit",
}


def unknown_key() -> AccountError:
    """The error for a 401, whichever of fal's hosts gives it."""
    return AccountError("fal does not know this key.", "Check the key at fal.ai/dashboard/keys.")


def refused(reply: Reply, key: str) -> RemoteError:
    """The error for one of the ``ACCOUNT`` or ``REJECTED`` statuses; ``key`` stays out of it."""
    words = _words(reply, key)
    if reply.status == 401:
        return unknown_key()
    if reply.status in ACCOUNT:
        return AccountError(f"fal refuses this account: {words}.", "See fal.ai/dashboard/billing.")
    if reply.status == 413:
        return RejectedError("The request is too large for fal.", "Send smaller or fewer pictures.")
    if reply.status in (404, 405):
        return RejectedError(
            f"fal does not offer this model here: {words}.", "Update FireRed Edit."
        )
    if _POLICY in map(_type_of, _entries(reply)):
        return RejectedError(
            "fal's content policy refuses this prompt or one of the pictures.",
            "Change the prompt or the pictures.",
        )
    return RejectedError(f"fal rejected the request: {words}.", "Change that input.")


def job_failed(reply: Reply) -> JobFailedError:
    """The error for a job that ended with the failure ``reply`` names."""
    named = reply.headers.get("x-fal-error-type", "")
    kind = named if _TYPE.fullmatch(named) else "unknown"
    default = "The machine at fal failed" if kind.startswith("runner_") else "fal failed"
    problem = _OUTCOMES.get(kind, default)
    error = JobFailedError(f"{problem} ({kind}).", "Run the edit again: this one is not billed.")
    error.error_type = kind
    return error


def _words(reply: Reply, key: str) -> str:
    """fal's own words: a sentence, or the fields at fault with what is wrong with each."""
    detail = _detail(reply)
    fields = "; ".join(map(_field_words, _entries(reply)))
    words = detail if isinstance(detail, str) else fields
    for secret in (key, key.partition(":")[2]):
        words = words.replace(secret, "(key)") if secret else words
    words = _LONG.sub("(…)", clean(words[:MAX_WORDS], 10 * _MAX_WORDS)).rstrip(".")
    if not words or _DIALOGS.search(words):
        return f"status {reply.status} {_phrase(reply.status)}".rstrip()
    return clean(words, _MAX_WORDS)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _detail(reply: Reply) -> Any:
    try:
        return read_object(reply.body).get("detail")
    except ValueError:
        return None


def _entries(reply: Reply) -> Iterator[dict[str, Any]]:
    detail = _detail(reply)
    entries = detail if isinstance(detail, list) else []
    return (entry for entry in entries if isinstance(entry, dict))


def _type_of(entry: dict[str, Any]) -> str:
    return str(entry.get("type"))


def _field_words(entry: dict[str, Any]) -> str:
    place = entry.get("loc")
    parts = [str(part) for part in (place if isinstance(place, list) else []) if part != "body"]
    return f"{'.'.join(parts) or 'request'}: {entry.get('msg', 'invalid')}"
