"""Which address means which phase, on fal's own hosts and on loopback."""

import re
from dataclasses import dataclass

from .faults import Phase
from .replies import Call
from .settings import APP_ID

QUEUE_HOST = "queue.fal.run"
RUN_HOST = "fal.run"
REST_HOST = "rest.fal.ai"
API_HOST = "api.fal.ai"
CDN_DOMAIN = "fal.media"

INTERCEPTED_HOSTS = (QUEUE_HOST, RUN_HOST, REST_HOST, API_HOST, CDN_DOMAIN, f"*.{CDN_DOMAIN}")

RUN_PREFIX = "/run"
"""On loopback the queue and the run host share one address; there this tells them apart."""


def is_fal_host(host: str) -> bool:
    return host in INTERCEPTED_HOSTS or host.endswith(f".{CDN_DOMAIN}")


@dataclass(frozen=True)
class Route:
    phase: Phase
    method: str
    host: str
    path: re.Pattern[str]

    def matches(self, call: Call) -> bool:
        return call.method == self.method and self._serves(call.fal_host)

    def _serves(self, fal_host: str) -> bool:
        if self.host == CDN_DOMAIN:
            return not fal_host or f".{fal_host}".endswith(f".{CDN_DOMAIN}")
        return fal_host in ("", self.host)


def _route(phase: Phase, method: str, host: str, path: str) -> Route:
    return Route(phase, method, host, re.compile(path))


_APP = f"/{re.escape(APP_ID)}"
_REQUEST = rf"{_APP}/requests/(?P<request_id>[^/]+)"

ROUTES = (
    _route("submit", "POST", QUEUE_HOST, _APP),
    _route("status", "GET", QUEUE_HOST, f"{_REQUEST}/status"),
    _route("stream", "GET", QUEUE_HOST, f"{_REQUEST}/status/stream"),
    _route("result", "GET", QUEUE_HOST, _REQUEST),
    _route("cancel", "PUT", QUEUE_HOST, f"{_REQUEST}/cancel"),
    _route("run", "POST", RUN_HOST, RUN_PREFIX + _APP),
    _route("history", "GET", API_HOST, "/v1/models/requests/by-endpoint"),
    _route("token", "POST", REST_HOST, "/storage/auth/token"),
    _route("initiate", "POST", REST_HOST, "/storage/upload/initiate"),
    _route("upload", "POST", CDN_DOMAIN, "/files/upload"),
    _route("upload", "PUT", CDN_DOMAIN, "/upload/[^/]+"),
    _route("get", "GET", CDN_DOMAIN, "/files/.+"),
)


def find(call: Call) -> tuple[Phase, str]:
    """The phase, and the request it is about where there is one."""
    path = RUN_PREFIX + call.path if call.fal_host == RUN_HOST else call.path
    for route in ROUTES:
        if route.matches(call) and (match := route.path.fullmatch(path)):
            return route.phase, match.groupdict().get("request_id", "")
    return "unknown", ""
