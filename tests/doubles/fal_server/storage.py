"""Uploads, and the files that anybody who knows the address may read."""

import mimetypes
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

TOKEN_LIFETIME = timedelta(hours=1)
TOKEN_TYPE = "Bearer"


@dataclass(frozen=True)
class StoredFile:
    data: bytes
    content_type: str
    lifecycle: str = field(default="", compare=False)
    """The uploader's wish for how long to keep it, as the header puts it."""


class Storage:
    def __init__(self) -> None:
        self.files: dict[str, StoredFile] = {}
        """By path."""
        self._tokens: set[str] = set()
        self._reserved: dict[str, tuple[str, str]] = {}

    def grant(self, base_url: str) -> dict[str, str]:
        token = secrets.token_urlsafe(24)
        self._tokens.add(f"{TOKEN_TYPE} {token}")
        expires_at = datetime.now(UTC) + TOKEN_LIFETIME
        return {
            "token": token,
            "token_type": TOKEN_TYPE,
            "base_url": base_url,
            "expires_at": expires_at.isoformat(),
        }

    def admits(self, authorization: str) -> bool:
        return authorization in self._tokens

    def revoke(self) -> None:
        """Take back every token granted so far."""
        self._tokens.clear()

    def put(self, data: bytes, content_type: str, name: str = "", lifecycle: str = "") -> str:
        """Store a file; its path."""
        path = self._new_path(content_type, name)
        self.files[path] = StoredFile(data, content_type, lifecycle)
        return path

    def reserve(self, content_type: str, name: str, lifecycle: str = "") -> tuple[str, str]:
        """The path to send a file to and the path where it will be found."""
        upload_path, path = f"/upload/{secrets.token_hex(16)}", self._new_path(content_type, name)
        self._reserved[upload_path] = (path, lifecycle)
        return upload_path, path

    def fill(self, upload_path: str, data: bytes, content_type: str) -> bool:
        if upload_path not in self._reserved:
            return False
        path, lifecycle = self._reserved[upload_path]
        self.files[path] = StoredFile(data, content_type, lifecycle)
        return True

    def find(self, url: str) -> StoredFile | None:
        """The file at an address of ours; the random part of the path tells it from strangers'."""
        return self.files.get(urlsplit(url).path)

    @staticmethod
    def _new_path(content_type: str, name: str) -> str:
        folder = f"/files/b/{secrets.token_hex(4)}"
        unique = secrets.token_urlsafe(16)
        if name:
            return f"{folder}/{unique}_{quote(name, safe='')}"
        return f"{folder}/{unique}{mimetypes.guess_extension(content_type) or '.bin'}"
