"""What fal answers, read with suspicion: keys may be missing, types may be off."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from ...errors import RemoteError, ResultError, clean
from ...request import NUM_IMAGES
from .hosts import ENDPOINT, Hosts
from .transport import Reply

LOOK_FIRST = "Look at fal.ai/dashboard before running again: it may finish and be billed."
"""What to do about a job whose outcome is not known here."""

MAX_LOG_LINE = 120

MAX_WORDS = 5_000
"""Characters that are read of anything fal says in words."""

MAX_SEEN = 10_000
"""Log lines that are known again."""

MAX_PICTURES = NUM_IMAGES[1]
MAX_TIMINGS = 50
MAX_UNITS = 10_000.0
"""More than any edit can cost: what is above is no price but a mistake."""

MAX_WHOLE = 2**53
"""Above it a JSON number is not exact everywhere."""

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
Cancellation = Literal["accepted", "finished", "unknown", "unreachable"]
"""fal's word on a cancel; "unreachable" where it could not be asked or would not say."""

Size = tuple[int, int]
"""Width and height in pixels."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


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
    """A finished job. ``flagged`` and ``sizes``, as declared, go with ``urls`` one to one.

    ``units`` are the billed ones, None where fal does not say; ``timings`` are in seconds.
    """

    urls: list[str]
    flagged: list[bool]
    seed: int | None
    prompt: str | None
    timings: dict[str, Any] = field(default_factory=dict)
    units: float | None = None
    sizes: list[Size | None] = field(default_factory=list)

    @property
    def inference_s(self) -> float | None:
        """Seconds the model worked, None where fal does not say."""
        return _number(self.timings.get("inference"))

    @property
    def is_inline(self) -> bool:
        """Whether a picture is inside the answer itself."""
        return any(is_data(url) for url in self.urls)

    def to_document(self) -> dict[str, Any]:
        """As plain JSON. ``ValueError`` for a picture inside the answer: too large to be kept."""
        if self.is_inline:
            raise ValueError("a picture inside the answer")
        return {
            "images": [
                _picture_document(*pair) for pair in zip(self.urls, self._sizes(), strict=True)
            ],
            "has_nsfw_concepts": self.flagged,
            "seed": self.seed,
            "prompt": self.prompt,
            "timings": self.timings,
            "units": self.units,
        }

    def _sizes(self) -> list[Size | None]:
        return self.sizes or [None] * len(self.urls)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Answer:
        """What ``to_document`` wrote; ``ValueError`` if it holds no picture."""
        try:
            return _answer(document, _number(document.get("units")))
        except ResultError as error:
            raise ValueError(error.problem) from None


def _picture_document(url: str, size: Size | None) -> dict[str, Any]:
    width, height = size or (None, None)
    return {"url": url, "width": width, "height": height}


def is_request_id(value: object) -> bool:
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def job_named(hosts: Hosts, request_id: str) -> Job:
    """The job of this id, with the addresses that the queue has for it."""
    base = f"{hosts.queue}/{ENDPOINT}/requests/{request_id}"
    return Job(request_id, f"{base}/status", base, f"{base}/cancel")


def trusted(hosts: Hosts, job: Job) -> Job:
    """``job`` with addresses that may be shown the key: the asked origin's, else built anew."""
    with suppress(RemoteError):
        for url in (job.status_url, job.response_url, job.cancel_url):
            hosts.check_job_url(url)
        return job
    return job_named(hosts, job.request_id)


def read_status(body: object, seen: set[tuple[str, str]]) -> Status | None:
    """One status document, polled or streamed; None for a state yet unheard of.

    ``seen`` remembers the log lines: polling repeats the whole list, the stream tells new ones,
    and a stream opened again begins anywhere.
    """
    if not isinstance(body, dict):
        return None
    state = body.get("status")
    if state not in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"):
        return None
    position = body.get("queue_position")
    return Status(state, _whole(position), tuple(_new_lines(_list(body.get("logs")), seen)))


def _new_lines(entries: list[Any], seen: set[tuple[str, str]]) -> list[str]:
    if len(seen) > MAX_SEEN:
        seen.clear()
    lines = []
    for entry in entries[-MAX_SEEN:]:
        message = entry.get("message") if isinstance(entry, dict) else None
        if not isinstance(message, str):
            continue
        line = (str(entry.get("timestamp"))[:MAX_LOG_LINE], message[:MAX_WORDS])
        if line not in seen:
            seen.add(line)
            lines.append(clean(line[1], MAX_LOG_LINE))
    return lines


def read_answer(reply: Reply) -> Answer:
    """The result; ``ResultError`` if it holds no picture, ``ValueError`` if it is no JSON."""
    return _answer(read_object(reply.body), billed_units(reply))


def billed_units(reply: Reply) -> float | None:
    """The units that fal bills for a result, of whatever kind; None where it does not say."""
    units = _number(reply.headers.get("x-fal-billable-units"))
    return units if units is not None and units <= MAX_UNITS else None


def _answer(body: dict[str, Any], units: float | None) -> Answer:
    images, flags = _list(body.get("images")), _list(body.get("has_nsfw_concepts"))
    paired = [
        (image, index < len(flags) and bool(flags[index]))
        for index, image in enumerate(images)
        if isinstance(image, dict) and isinstance(image.get("url"), str)
    ][:MAX_PICTURES]
    if not paired:
        raise ResultError("fal answered without a picture.", LOOK_FIRST)
    prompt, timings = body.get("prompt"), body.get("timings")
    return Answer(
        urls=[_address(image["url"]) for image, _ in paired],
        flagged=[flag for _, flag in paired],
        seed=_whole(body.get("seed")),
        prompt=prompt[:MAX_WORDS] if isinstance(prompt, str) else None,
        timings=_numbers(timings if isinstance(timings, dict) else {}),
        units=units,
        sizes=[_size(image) for image, _ in paired],
    )


def is_data(url: str) -> bool:
    """Whether an address holds what it leads to."""
    return url.startswith("data:")


def _address(url: str) -> str:
    """``url`` with the scheme of a data URI in small letters, as it is known by."""
    return "data:" + url[5:] if url[:5].lower() == "data:" else url


def _size(image: dict[str, Any]) -> Size | None:
    width, height = _whole(image.get("width")), _whole(image.get("height"))
    return (width, height) if width and height else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: object) -> int | None:
    """A whole number that is not negative, nor larger than JSON holds."""
    return value if type(value) is int and 0 <= value <= MAX_WHOLE else None


def _number(value: object) -> float | None:
    """A number, or the text of one, that is finite and not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    read = {name[:MAX_LOG_LINE]: _number(values[name]) for name in islice(values, MAX_TIMINGS)}
    return {name: number for name, number in read.items() if number is not None}


def read_object(body: bytes) -> dict[str, Any]:
    """``body`` as a JSON object whose texts can all be told on, else ``ValueError``."""
    try:
        document = json.loads(body)
        if _HALF_CHARACTER.search(body):
            # Python reads half of a pair as a character, which then fits into no file and message.
            text = json.dumps(document, ensure_ascii=False)
            document = json.loads(text.encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document
