"""The pictures of finished edits, exactly as fal sent them, until they are old or in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import JournalError
from ..durable import write_durably

SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}


class Results:
    """Files in ``folder``, named by the key of their edit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, key: str, number: int, data: bytes) -> str:
        """Put a picture on disk, for good before this returns; its name."""
        suffix = next((end for head, end in SUFFIXES.items() if data.startswith(head)), ".bin")
        name = f"{key[:2]}/{key}-{number}{suffix}"
        file = self._folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(file, data)
        except OSError as error:
            raise JournalError(
                f"The result cannot be kept: {error.strerror}.",
                "Make room on the disk and run again: it is paid for and stays at fal.",
            ) from error
        return name

    def load(self, name: str) -> bytes | None:
        """The bytes of a picture; None where it is no longer there."""
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def sizes(self) -> Iterator[tuple[str, int, float]]:
        """Name, bytes and time of last change of every file here."""
        for file in self._folder.glob("*/*"):
            try:
                state = file.stat()
            except FileNotFoundError:  # another process tidies too
                continue
            yield file.relative_to(self._folder).as_posix(), state.st_size, state.st_mtime
