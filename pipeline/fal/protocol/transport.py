"""One request and its answer, over connections that are kept alive. Nothing is repeated here."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from socket import gaierror
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError

from ...errors import ResultError

MAX_IDLE_S = 20.0
MAX_JSON_BYTES = 64 * 1024 * 1024
"""``sync_mode`` answers with pictures inside the JSON."""

_CHUNK = 64 * 1024

BROKEN = (OSError, HTTPError)
"""What a request may raise: requests' own errors are OSErrors, and some of urllib3's pass it by."""

Timeout = tuple[float, float]
"""Seconds to connect, and seconds of silence to bear."""

CONNECT_S = 10.0
ANSWER_S = 60.0
SLOWEST_LINE = 250_000
"""Bytes a second; the time an answer may take grows with what is sent."""

SLOWEST_ANSWER = 2_000
"""Bytes a second: what comes more slowly than this is given up after ``ANSWER_S``."""

LEAST_SECRET = 12
"""Characters; a shorter half of a key may be a word like any other."""


def time_to_send(size: int) -> Timeout:
    """For a body of so many bytes, given as a file.

    Then it goes out in blocks with a time-out each, however slow the line; sent at once, the whole
    of it would have to pass within the connect time-out.
    """
    return CONNECT_S, ANSWER_S + size / SLOWEST_LINE


def new_session() -> requests.Session:
    """A session that keeps connections and nothing else, for use by many threads.

    It repeats nothing by itself, follows no redirect and keeps no cookie. Proxies of the
    environment are used.
    """
    session = _Session()
    adapter = _Adapter(pool_connections=8, pool_maxsize=128, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # Without an own rule, requests would put a login from ~/.netrc in the place of the key.
    session.auth = lambda request: request
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None is: nowhere. Asked for even where redirects are switched off, to be looked up."""


class _Fresh:
    """A pool whose connections are not used again after ``MAX_IDLE_S`` without use.

    A server closes what was idle for long, and may be doing so right now. A submit that is sent
    into that has left this machine whole and gets no answer: whether fal has it nobody knows.
    """

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc]
        if time.monotonic() - getattr(conn, "idle_since", time.monotonic()) > MAX_IDLE_S:
            conn.close()  # it connects anew when it is used
        return conn


class _FreshHTTP(_Fresh, HTTPConnectionPool):
    pass


class _FreshHTTPS(_Fresh, HTTPSConnectionPool):
    pass


_POOLS = {"http": _FreshHTTP, "https": _FreshHTTPS}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        # A SOCKS proxy's pools connect in a way of their own.
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


@dataclass(frozen=True)
class Reply:
    """An answer. ``whole`` is whether all of its body came; names of headers have no case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Wire:
    """A session and the key that its requests carry."""

    key: str
    session: requests.Session

    def ask(
        self,
        method: str,
        url: str,
        timeout: Timeout,
        *,
        params: Mapping[str, str] | None = None,
        body: io.BytesIO | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """The answer to one request; raises one of ``BROKEN`` if none came."""
        with self.open(method, url, timeout, params=params, body=body) as response:
            reply = read(response, MAX_JSON_BYTES, stopped)
        return replace(reply, body=self.without_key(reply.body))

    def without_key(self, received: bytes) -> bytes:
        """``received`` as it may be shown and kept, should the server have said the key back."""
        for secret in (self.key, self.key.partition(":")[2]):
            if len(secret) >= LEAST_SECRET:
                received = received.replace(secret.encode(), b"(key)")
        return received

    def open(
        self,
        method: str,
        url: str,
        timeout: Timeout,
        *,
        accept: str = "application/json",
        params: Mapping[str, str] | None = None,
        body: io.BytesIO | None = None,
    ) -> requests.Response:
        """The head of an answer, its body still to be read; closing it is up to the caller."""
        headers = {"Authorization": f"Key {self.key}", "Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self.session.request(
            method,
            url,
            params=params,
            data=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        )


def read(response: requests.Response, limit: int, stopped: Callable[[], bool]) -> Reply:
    """``response`` with as much of its body as came before the connection broke.

    Raises ``ResultError`` for a success of more than ``limit`` bytes; a refusal is cut there.
    Gives up between two pieces once ``stopped``, or where they come too slowly.
    """
    body, whole, began = bytearray(), False, time.monotonic()
    try:
        for piece in pieces(response):
            body += piece
            # A piece within every time-out is no end within any time.
            late = time.monotonic() - began > ANSWER_S + len(body) / SLOWEST_ANSWER
            if len(body) > limit or late or stopped():
                break
        else:
            whole = _is_whole(response, body)
    except BROKEN:
        pass
    reply = Reply(response.status_code, response.headers, bytes(body[:limit]), whole)
    if len(body) > limit and reply.succeeded:
        raise ResultError("fal's answer is too large.", "Ask for a smaller size.")
    return reply


def _is_whole(response: requests.Response, body: bytearray) -> bool:
    """Whether ``body`` is as long as promised: older versions of urllib3 do not look."""
    promised = response.headers.get("Content-Length", "")
    encoded = "Content-Encoding" in response.headers
    return encoded or not promised.isdecimal() or promised == str(len(body))


@dataclass(frozen=True)
class Trouble:
    """Why no answer came, in words. ``passing``: the same request may get one later."""

    problem: str
    remedy: str
    passing: bool = True


_OFFLINE = "Check the internet connection and run again."
_CERTIFICATE = "Check this computer's clock, and whatever reads its https: proxy or antivirus."


def trouble(error: BaseException, host: str) -> Trouble:
    """The cause of one of ``BROKEN``, which a request to ``host`` raised."""
    causes = _causes(error)

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if any_is(requests.exceptions.ProxyError):
        return Trouble(f"The proxy did not connect to {host}.", "Check HTTPS_PROXY and the proxy.")
    if any_is(ssl.SSLCertVerificationError):
        return Trouble(f"The certificate of {host} is not trusted.", _CERTIFICATE, passing=False)
    if any_is(gaierror):
        return Trouble(f"The name {host} could not be resolved.", _OFFLINE)
    if any_is(ConnectionRefusedError):
        return Trouble(f"{host} refused the connection.", _OFFLINE)
    if any_is(requests.Timeout, TimeoutError) and not any_is(NewConnectionError):
        return Trouble(f"{host} did not answer in time.", _OFFLINE)
    if any_is(NewConnectionError):
        return Trouble(f"{host} could not be reached.", _OFFLINE)
    if any_is(requests.ConnectionError, requests.exceptions.ChunkedEncodingError, HTTPError):
        return Trouble(f"The connection to {host} broke.", _OFFLINE)
    return Trouble(
        f"{host} could not be asked: {type(error).__name__}.",
        "Check the proxy and certificate settings of the environment.",
        passing=False,
    )


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it wraps: requests and urllib3 hand the cause on as an argument."""
    found = [error]
    for current in found:
        for inner in (*current.args, getattr(current, "reason", None), current.__cause__):
            if isinstance(inner, BaseException) and inner not in found:
                found.append(inner)
    return found


def pieces(response: requests.Response, at_least: int = _CHUNK) -> Iterator[bytes]:
    """The body, each piece as soon as it is there.

    Before urllib3 2.2 a piece waits for ``at_least`` so many bytes, or the end.
    """
    read1 = getattr(response.raw, "read1", None)
    if read1 is None:
        yield from response.iter_content(at_least)
        return
    while piece := read1(_CHUNK, decode_content=True):
        yield piece
