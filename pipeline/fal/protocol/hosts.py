"""Whom we talk to, and whom we believe.

The key goes to the queue, storage and history hosts below and nowhere else. Pictures are accepted
from fal's own hosts over https, and from a host the operator named in ``FAL_QUEUE_RUN_HOST`` or
``FAL_REST_HOST``; uploads go to the same ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ...errors import RemoteError, SetupError

ENDPOINT = "fal-ai/firered-image-edit-v1.1"

_DEFAULT_QUEUE = "https://queue.fal.run"
_DEFAULT_REST = "https://rest.fal.ai"
_DEFAULT_API = "https://api.fal.ai"
_DOMAINS = ("fal.media", "fal.run", "fal.ai")

MAX_ADDRESS = 8192
"""Characters; a longer address is none."""

_READ_ALIKE = re.compile(r"[!-\[\]-~]+")
"""Printable and no backslash: two parsers of such an address find the same host in it."""


@dataclass(frozen=True)
class Hosts:
    """Base addresses without a trailing slash.

    ``chosen`` are the origins an operator named. ``rest`` leads to fal's storage and ``api`` to the
    history of requests; None where they are not to be had.
    """

    queue: str
    rest: str | None
    chosen: frozenset[str]
    api: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Hosts:
        """Raise ``SetupError`` for an address that is neither https nor loopback."""
        named = {
            name: _base_address(name, environ[name])
            for name in ("FAL_QUEUE_RUN_HOST", "FAL_REST_HOST")
            if environ.get(name)
        }
        # A key for an operator's own queue is not shown to fal's other hosts unasked.
        own = "FAL_QUEUE_RUN_HOST" in named
        rest, api = (None, None) if own else (_DEFAULT_REST, _DEFAULT_API)
        return cls(
            named.get("FAL_QUEUE_RUN_HOST", _DEFAULT_QUEUE),
            named.get("FAL_REST_HOST", rest),
            frozenset(filter(None, map(origin_of, named.values()))),
            named.get("FAL_REST_HOST", api),
        )

    def check_job_url(self, url: str) -> str:
        """``url`` of a job, which will carry the key: on the origin that is asked, no other."""
        asked = origin_of(self.queue)
        if asked and origin_of(url) == asked:
            return url
        raise _distrusted(url, "for this job's status")

    def check_picture_url(self, url: str) -> str:
        """``url`` of a result: from fal, or from a host the operator named."""
        return self._check(url, "for the picture")

    def check_upload_base(self, url: str) -> str:
        """``url`` that pictures are sent to: at fal, or at a host the operator named."""
        return self._check(url, "for uploads")

    def _check(self, url: str, purpose: str) -> str:
        if origin_of(url) in self.chosen or _is_fal(url):
            return url
        raise _distrusted(url, purpose)


def origin_of(url: str) -> str:
    """Scheme, host and port: what makes two addresses the same server; "" if it is no address."""
    if len(url) > MAX_ADDRESS:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    # What is read differently by what fetches it could lead there while it looks fine here.
    if not _READ_ALIKE.fullmatch(url) or "@" in parts.netloc:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_fal(url: str) -> bool:
    parts = urlsplit(origin_of(url))
    host = parts.hostname or ""
    known = any(host == domain or host.endswith(f".{domain}") for domain in _DOMAINS)
    return parts.scheme == "https" and known


def _base_address(name: str, value: str) -> str:
    """``host[:port]`` as fal's own client reads it, or a full address."""
    address = value.strip().rstrip("/")
    if "://" not in address:
        return f"https://{address}"
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return address
    raise SetupError(
        f"{name} is not https.", "Use https, or http with a loopback address such as 127.0.0.1."
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _distrusted(url: str, purpose: str) -> RemoteError:
    return RemoteError(
        f"fal's answer names the host {origin_of(url)!r} {purpose}.",
        "It is not one of fal's, so nothing was sent there. Report this.",
    )
