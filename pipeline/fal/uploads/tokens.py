"""Short-lived permissions to upload, shared by every edit of the process."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from .exchange import Failed, read_text

RENEWED_BEFORE_S = 60.0
"""A token is not used in its last minute: the upload has to pass within its life."""

REFUSAL_S = 600.0
"""How long storage that granted no token is not asked for one again."""

_ONE_WORD = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Token:
    """``authorization`` is the value of the header; ``expires_at`` is in unix seconds."""

    authorization: str
    base_url: str
    expires_at: float

    @property
    def usable(self) -> bool:
        return time.time() < self.expires_at - RENEWED_BEFORE_S


def read_token(body: bytes) -> Token:
    """What the storage granted; ``Failed`` where that is not to be read."""
    token, kind, base_url, expires_at = read_text(
        body, "token", "token_type", "base_url", "expires_at"
    )
    if not (_ONE_WORD.fullmatch(token) and _ONE_WORD.fullmatch(kind)):
        # Sent as it is, the HTTP library would refuse it with an error that quotes it.
        raise Failed("fal's storage gave a token that is not one word.")
    return Token(f"{kind} {token}", base_url.rstrip("/"), _unix(expires_at))


def _unix(date: str) -> float:
    """Unix seconds of an ISO date; 0, so that the token serves once, where it is malformed."""
    try:
        parsed = datetime.fromisoformat(date)
    except ValueError:
        return 0.0
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


class Tokens:
    """One token per storage at a time, whichever edit asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asking: defaultdict[str, Lock] = defaultdict(Lock)
        self._tokens: dict[str, Token] = {}
        self._refused_until: dict[str, float] = {}

    def get(self, storage: str, ask: Callable[[], Token]) -> Token:
        """A usable token: the one at hand, else what ``ask`` brings, called by one at a time."""
        with self._lock:
            asking = self._asking[storage]
        with asking:
            token = self._tokens.get(storage)
            if token is None or not token.usable:
                token = self._tokens[storage] = ask()
            return token

    def drop(self, storage: str, token: Token) -> None:
        """Forget ``token``, which the storage no longer takes, unless it was renewed meanwhile."""
        with self._lock:
            if self._tokens.get(storage) is token:
                del self._tokens[storage]

    def refused(self, storage: str) -> None:
        """Remember for a while that tokens lead nowhere here."""
        self._refused_until[storage] = time.monotonic() + REFUSAL_S

    def worth_asking(self, storage: str) -> bool:
        return time.monotonic() >= self._refused_until.get(storage, 0.0)


tokens = Tokens()
"""One for the process."""
