"""Edits that were paid for, or may have been, and never reached the artist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..canvas import restore
from ..errors import InputError, JobGoneError
from ..images import to_tensor
from .collecting import collector_in
from .finishing import kept
from .journal import COLLECTABLE, Entry, Journal, State, journal_in
from .pricing import cost_of, today


@dataclass(frozen=True)
class Waiting:
    """One such edit.

    ``state`` is the journal's; ``cost`` is in US dollars, "unknown" where fal has not said.
    """

    key: str
    prompt: str
    seed: int
    state: State
    ready: bool
    request_id: str | None
    ordered_at: float
    cost: float | str


class Backlog:
    """What waits to be collected in one data folder."""

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder
        self._journal: Journal = journal_in(data_folder)

    def waiting(self) -> list[Waiting]:
        """The latest first. Those still at fal are followed from now on, if they were not."""
        entries = self._journal.unattended(COLLECTABLE)
        for entry in entries:
            if entry.state != "done":
                collector_in(self._folder).follow(entry.key)
        return [_waiting(entry) for entry in entries]

    def spent_today(self) -> float:
        """US dollars since midnight; what fal has not billed yet counts as estimated."""
        return self._journal.spent(today())

    def pictures(self, key: str) -> list[torch.Tensor]:
        """The pictures of a finished edit, each (H, W, 3) in 0..1, of the size asked for."""
        entry = self._journal.find(key)
        if entry is None or entry.state != "done":
            raise InputError("This edit is not finished.", "Wait until the list shows it as ready.")
        done = kept(self._journal, entry)
        if done is None:
            self._journal.lost(key)
            collector_in(self._folder).follow(key)
            raise JobGoneError(
                "Its pictures are no longer on this machine.", "They are fetched again: try later."
            )
        return [restore(to_tensor(pixels), entry.shape.plan()) for pixels in done.pictures]

    def collected(self, key: str) -> None:
        """The artist has them."""
        self._journal.delivered(key)

    def give_up(self, key: str) -> None:
        """It is waited for no more, and never listed again; fal is not told, and may bill it."""
        self._journal.delivered(key)


def _waiting(entry: Entry) -> Waiting:
    return Waiting(
        key=entry.key,
        prompt=entry.prompt,
        seed=entry.seed,
        state=entry.state,
        ready=entry.state == "done",
        request_id=entry.request_id,
        ordered_at=entry.sent_at or entry.changed_at,
        cost=cost_of(entry.answer.units if entry.answer else None),
    )
