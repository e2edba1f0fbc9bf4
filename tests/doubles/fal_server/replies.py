"""One request as it came in, one answer as it goes out."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Call:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    origin: str
    """Scheme and authority as the client asked for them."""
    fal_host: str = ""
    """The name of fal's that an intercepted client believes it talks to."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def wants_logs(self) -> bool:
        return self.query.get("logs", "") in ("1", "true")

    @property
    def file_origin(self) -> str:
        return "https://v3.fal.media" if self.fal_host else self.origin


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Iterator[bytes] | None = None
    """Set for a stream of server-sent events, which has no body of its own."""

    @classmethod
    def json(cls, status: int, document: Any, headers: Mapping[str, str] | None = None) -> Self:
        head = {"Content-Type": "application/json", **(headers or {})}
        return cls(status, json.dumps(document).encode(), head)

    @classmethod
    def detail(cls, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Self:
        return cls.json(status, {"detail": detail}, headers)
