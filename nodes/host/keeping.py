"""What edits on fal keep on disk, and to clear it.

fal's side is imported only where there is something to look at, as in ``collecting``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...pipeline.errors import MissingPackageError
from . import folders
from .collecting import has_journal

if TYPE_CHECKING:
    from ...pipeline.fal.journal import Journal

_NOTHING = {"count": 0, "bytes": 0}


def room() -> dict[str, Any]:
    """Pictures that were delivered, those that wait, and the journal's records, as JSON."""
    journal = _journal()
    if journal is None:
        return {"delivered": _NOTHING, "waiting": _NOTHING, "records": _NOTHING}
    from ...pipeline.fal.journal import room_of

    return asdict(room_of(journal))


def clear() -> dict[str, Any]:
    """Delete the pictures that were delivered; what is left."""
    journal = _journal()
    if journal is not None:
        from ...pipeline.fal.journal import clear

        clear(journal)
    return room()


def _journal() -> Journal | None:
    """The journal, where an edit was ever ordered."""
    folder = folders.data_folder()
    if not has_journal(folder):
        return None
    with MissingPackageError.named():
        from ...pipeline.fal.journal import journal_in
    return journal_in(folder)
