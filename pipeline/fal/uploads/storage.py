"""fal's file storage: where a picture goes that is too large to travel inside the request."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
import requests

from ...errors import AccountError, FireRedError, InputError, RemoteError
from ...images import Pixels
from ..keys import account_of
from ..payload import UploadQuality
from ..protocol.refusals import unknown_key
from .exchange import Failed, read_text, repeat, send
from .tokens import Token, read_token, tokens

MARGIN_S = 3600
"""An address is not used in the last hour of its life: an edit may wait in fal's queue."""

UPLOAD_PATIENCE_S = 120.0
TOKEN_PATIENCE_S = 30.0
"""Of that, how long the quicker way is tried before the other one."""

MAX_ADDRESS = 2048
"""Characters; fal takes no longer address for a picture."""

Kind: TypeAlias = Literal["png", "jpeg"]

_STORAGE_TYPE = "storage_type=fal-cdn-v3"

logger = logging.getLogger(__name__)


class Remembered(Protocol):
    """Addresses of earlier uploads, by digest and storage. Called from several threads."""

    def uploaded(self, digest: str, storage: str) -> str | None:
        """The address remembered for this picture, if its ``expires_at`` is still to come."""

    def remember_upload(self, digest: str, storage: str, url: str, expires_at: float) -> None:
        """Remember ``url`` until ``expires_at``, in unix seconds; fal keeps it an hour longer."""

    def forget_uploads(self, urls: Sequence[str]) -> None:
        """Forget these addresses: fal could not read one of them."""


def picture_digest(pixels: Pixels, quality: UploadQuality) -> str:
    """What tells (H, W, 3) ``pixels`` sent at ``quality`` from any others, in hex."""
    digest = hashlib.sha256(f"{quality} {pixels.shape} ".encode())
    # Row by row where rows do not follow each other in memory: the whole is never copied.
    for part in (pixels,) if pixels.flags.c_contiguous else pixels:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


class Storage:
    """The storage behind ``rest``, for one key. Thread-safe as far as ``requests`` is.

    ``check_base`` returns an address that may be trusted and raises ``RemoteError`` for any other.
    ``lifetime_s`` is how long fal is asked to keep what is stored.
    """

    def __init__(
        self,
        key: str,
        rest: str,
        check_base: Callable[[str], str],
        session: requests.Session,
        remembered: Remembered,
        lifetime_s: int,
    ) -> None:
        self.name = f"{rest} {account_of(key)}"
        """What addresses and tokens are kept under: another account's are not used."""
        self._authorization = {"Authorization": f"Key {key}"}
        self._rest = rest
        self._check_base = check_base
        self._session = session
        self._remembered = remembered
        self._lifetime_s = lifetime_s

    def find(self, digest: str) -> str | None:
        """The address of an earlier upload that will live long enough."""
        return self._remembered.uploaded(digest, self.name)

    def store(self, digest: str, kind: Kind, data: bytes, stopped: Callable[[], bool]) -> str:
        """The address of ``data`` after uploading it; remembered under ``digest``.

        Raises ``InputError`` if it is too large, ``AccountError`` if the key is refused,
        ``RemoteError`` if it cannot be had, and ``EditCancelled`` between tries once ``stopped``.
        """
        began = time.time()
        try:
            url = self._upload(kind, data, stopped)
        except Failed as failure:
            raise _in_words(failure, len(data)) from failure
        expires_at = began + self._lifetime_s - MARGIN_S
        if expires_at > time.time():
            self._remembered.remember_upload(digest, self.name, url, expires_at)
        return url

    def _upload(self, kind: Kind, data: bytes, stopped: Callable[[], bool]) -> str:
        """By token, in one request; where that leads nowhere, by the pair fal documents."""
        deadline = time.monotonic() + UPLOAD_PATIENCE_S
        if tokens.worth_asking(self.name):
            try:
                return repeat(lambda: self._by_token(kind, data), stopped, _token_patience)
            except Failed as failure:
                if failure.status in (413, 429):
                    raise
                logger.info("fal's storage takes no upload by token: %s", failure.problem)
                tokens.refused(self.name)
        left = max(deadline - time.monotonic(), 0.0)
        return repeat(lambda: self._by_pair(kind, data), stopped, lambda _: left)

    def _by_token(self, kind: Kind, data: bytes) -> str:
        token = tokens.get(self.name, self._ask_for_token)
        try:
            return self._post(token, kind, data)
        except Failed as failure:
            if failure.status != 401:
                raise
        tokens.drop(self.name, token)
        return self._post(tokens.get(self.name, self._ask_for_token), kind, data)

    def _ask_for_token(self) -> Token:
        url = f"{self._rest}/storage/auth/token?{_STORAGE_TYPE}"
        headers = {**self._authorization, "Content-Type": "application/json"}
        try:
            token = read_token(send(self._session, "POST", url, headers, b"{}"))
        except Failed as failure:
            if failure.status == 401:
                raise unknown_key() from failure
            raise
        self._check_base(token.base_url)
        return token

    def _post(self, token: Token, kind: Kind, data: bytes) -> str:
        headers = {
            **self._lifecycle(),
            "Authorization": token.authorization,
            "Content-Type": f"image/{kind}",
            "X-Fal-File-Name": _file_name(kind),
        }
        url = f"{token.base_url}/files/upload"
        (address,) = read_text(send(self._session, "POST", url, headers, data), "access_url")
        return self._checked(address)

    def _by_pair(self, kind: Kind, data: bytes) -> str:
        content_type = {"Content-Type": f"image/{kind}"}
        wanted = {"content_type": f"image/{kind}", "file_name": _file_name(kind)}
        upload_url, address = self._initiate(json.dumps(wanted).encode())
        # The address of the PUT is its own permission: the key stays here.
        send(self._session, "PUT", self._check_base(upload_url), content_type, data)
        return self._checked(address)

    def _initiate(self, wanted: bytes) -> list[str]:
        url = f"{self._rest}/storage/upload/initiate?{_STORAGE_TYPE}"
        headers = {**self._authorization, **self._lifecycle(), "Content-Type": "application/json"}
        try:
            return read_text(
                send(self._session, "POST", url, headers, wanted), "upload_url", "file_url"
            )
        except Failed as failure:
            if failure.status == 401:
                raise unknown_key() from failure
            if failure.status == 403:
                raise AccountError(
                    "fal refuses this account the use of its storage.",
                    "See fal.ai/dashboard/billing.",
                ) from failure
            raise

    def _checked(self, address: str) -> str:
        if len(address) > MAX_ADDRESS:
            raise Failed("fal's storage gave an address that is too long.")
        return self._check_base(address)

    def _lifecycle(self) -> dict[str, str]:
        # fal's storage reads the one header, its upload host the other.
        wanted = json.dumps({"expiration_duration_seconds": self._lifetime_s})
        return {"X-Fal-Object-Lifecycle-Preference": wanted, "X-Fal-Object-Lifecycle": wanted}


def _token_patience(failure: Failed) -> float:
    # Told to slow down, the other way would only ask for more.
    return UPLOAD_PATIENCE_S if failure.status == 429 else TOKEN_PATIENCE_S


def _file_name(kind: Kind) -> str:
    """Tells nothing of the artist's own names: the address may be read by anybody who has it."""
    return "reference.png" if kind == "png" else "reference.jpg"


def _in_words(failure: Failed, size: int) -> FireRedError:
    if failure.status == 413:
        return InputError(
            f"fal's storage takes no picture of {size / 1e6:.0f} MB.",
            "Set upload_quality to jpeg 95, or connect smaller pictures.",
        )
    return RemoteError(f"The pictures could not be uploaded: {failure.problem}", failure.remedy)
