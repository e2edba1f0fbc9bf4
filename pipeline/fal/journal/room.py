"""What the journal takes on disk, and how an artist gets that room back."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import JournalError
from .entries import Entry
from .journal import Journal
from .tidying import remove


@dataclass(frozen=True)
class Share:
    """So many files, or rows, and their bytes."""

    count: int
    bytes: int


@dataclass(frozen=True)
class Room:
    """``delivered`` pictures can be cleared away; ``waiting`` are all others, also in the making.

    ``records`` counts the uploads that are remembered; its bytes are those of the whole journal.
    """

    delivered: Share
    waiting: Share
    records: Share


def room_of(journal: Journal) -> Room:
    """What ``journal`` and its pictures take now."""
    clearable = {name for entry in _delivered(journal) for name in entry.files}
    delivered: list[int] = []
    waiting: list[int] = []
    for name, size, _ in journal.results.sizes():
        (delivered if name in clearable else waiting).append(size)
    records = Share(journal.uploads.count(), journal.database.size())
    return Room(_share(delivered), _share(waiting), records)


def clear(journal: Journal) -> None:
    """Remove the pictures of every delivered edit that no node is at, and the edit with them.

    What waits to be collected stays, and so do the bills. ``JournalError`` where a file resists.
    """
    try:
        remove(journal, _delivered(journal))
    except OSError as error:
        raise JournalError(
            f"A kept picture cannot be deleted: {error.strerror}.",
            "Close what has it open and clear again.",
        ) from error


def _delivered(journal: Journal) -> list[Entry]:
    done = journal.entries(("done",))
    return [entry for entry in done if entry.files and entry.delivered_at is not None]


def _share(sizes: list[int]) -> Share:
    return Share(len(sizes), sum(sizes))
