"""What only an edit that is really sent has to do: its price, its pictures, its place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ..host import Phase
from ..preparation import Prepared, Stopwatch
from .cancelling import take_back
from .desk import Desk
from .payload import FalOptions, body_length, build_payload
from .placing import Packed
from .pricing import DailyLimit, Estimate, budget, today
from .protocol.answers import Job
from .uploads.sending import Picture, Sender, Sent
from .window import window


class Packing:
    """One edit's submit in the making. ``sent`` tells how its pictures travel, once they do."""

    def __init__(
        self,
        desk: Desk,
        prepared: Prepared,
        options: FalOptions,
        pictures: Sequence[Picture],
        price: Estimate,
        sender: Sender,
        places: ExitStack,
        watch: Stopwatch,
    ) -> None:
        self._desk = desk
        self._prepared = prepared
        self._options = options
        self._pictures = pictures
        self._price = price
        self._sender = sender
        self._places = places
        self._watch = watch
        self._reserved = False
        self.sent: Sent | None = None

    def reserve(self) -> None:
        budget.reserve(self._desk.host.run_id, self._price, self._options.max_cost)
        self._reserved = True

    def release(self) -> None:
        if self._reserved:
            budget.release(self._desk.host.run_id, self._price)
        self._reserved = False

    def pack(self) -> Packed:
        host = self._desk.host
        count = len(self._pictures)
        pictures = "picture" if count == 1 else "pictures"
        host.phase(Phase(f"preparing {count} {pictures}, {self._price}"))
        host.progress(0, 100)
        with self._watch.phase("pack"):
            empty = build_payload(self._prepared, self._options, [])
            self.sent = self._sender.addresses(
                self._pictures, body_length(empty, count), host.cancelled, self._tell
            )
        urls = self.sent.urls
        return Packed(
            {**empty, "image_urls": urls}, [url for url in urls if not url.startswith("data:")]
        )

    def _tell(self, done: int, total: int) -> None:
        if total:
            text = f"uploading {min(done + 1, total)}/{total}, {self._price}"
            self._desk.host.phase(Phase(text, clock="uploading"))

    def take_place(self) -> None:
        host = self._desk.host
        self._places.enter_context(window.place(host.settings.window, host))

    def daily_limit(self) -> DailyLimit | None:
        limit = self._desk.host.settings.daily_limit
        return None if limit is None else DailyLimit(limit, today())

    def cancel(self, job: Job) -> None:
        take_back(self._desk, job)
