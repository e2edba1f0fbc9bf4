"""Whom we talk to, and whom we believe.

The key goes to the queue and storage hosts and to fal's own API hosts only. Pictures are accepted
from fal's own hosts over https, and from a host the operator named in ``FAL_QUEUE_RUN_HOST`` or
``FAL_REST_HOST``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import RemoteError, SetupError

ENDPOINT = "fal-ai/firered-image-edit-v1.1"

_DEFAULT_QUEUE = "https://queue.fal.run"
_DEFAULT_REST = "https://rest.fal.ai"
_API_DOMAINS = ("fal.run", "fal.ai")
_PICTURE_DOMAINS = ("fal.media", "fal.run", "fal.ai")


@dataclass(frozen=True)
class Hosts:
    """Base addresses without a trailing slash; ``chosen`` are the origins an operator named."""

    queue: str
    rest: str
    chosen: frozenset[str]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Hosts:
        """Raise ``SetupError`` for an address that is neither https nor loopback."""
        named = {
            name: _base_address(name, environ[name])
            for name in ("FAL_QUEUE_RUN_HOST", "FAL_REST_HOST")
            if environ.get(name)
        }
        return cls(
            named.get("FAL_QUEUE_RUN_HOST", _DEFAULT_QUEUE),
            named.get("FAL_REST_HOST", _DEFAULT_REST),
            frozenset(map(origin_of, named.values())),
        )

    def check_job_url(self, url: str) -> str:
        """``url`` of a job, which will carry the key: where it was submitted, or fal itself."""
        if origin_of(url) == origin_of(self.queue) or _is_fal(url, _API_DOMAINS):
            return url
        raise _distrusted(url, "for this job's status")

    def check_picture_url(self, url: str) -> str:
        """``url`` of a result: from fal, or from a host the operator named."""
        if origin_of(url) in self.chosen or _is_fal(url, _PICTURE_DOMAINS):
            return url
        raise _distrusted(url, "for the picture")


def origin_of(url: str) -> str:
    """Scheme, host and port: what makes two addresses the same server; "" if it is no address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_fal(url: str, domains: tuple[str, ...]) -> bool:
    parts = urlsplit(origin_of(url))
    host = parts.hostname or ""
    known = any(host == domain or host.endswith(f".{domain}") for domain in domains)
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
