"""One edit on fal: check, price, place the order, wait, bring the pictures home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count

from ..errors import (
    EditCancelled,
    JobFailedError,
    JobGoneError,
    JournalError,
    RemoteError,
    RemoteTimeoutError,
    ResultError,
)
from ..host import Phase, RemoteHost
from ..preparation import Prepared, Stopwatch, prepare
from ..request import TRAINED_REFERENCES, EditRequest, EditResult
from .cancelling import cancel
from .collecting import collector_in
from .connecting import Connection, connect
from .desk import Desk
from .finishing import Finished, Finisher, ending, kept, was_cancelled
from .handover import Handover
from .journal import Entry, journal_in, new_visit
from .orders import order_of
from .pacing import RunPace
from .packing import Packing
from .payload import FalOptions
from .placing import Placing
from .pricing import estimate
from .uploads.sending import Picture, Sender
from .waiting import AT_FAL, Watch, attend

__all__ = ["FalEngine", "FalOptions"]

MAX_ORDERS = 3
"""How often an edit is ordered because the job it found had been cancelled meanwhile."""

ATTACHED = "this edit is at fal already: waiting for it, it is billed once"

NO_PICTURE = (
    "It is billed. Run again to fetch it once more, at no further cost, or change the seed to pay "
    "for another."
)


class FalEngine:
    """Carries out edits on fal's endpoint, with the key and hosts of this machine."""

    def __init__(self, host: RemoteHost) -> None:
        self._host = host

    def edit(self, request: EditRequest, options: FalOptions) -> EditResult:
        """Run ``request``; blocks until the pictures are here.

        Key, inputs and price are checked before anything is sent. An edit that is at fal already,
        or was finished before, is not ordered again. Raises ``FireRedError``, or ``EditCancelled``
        after telling fal to stop.
        """
        if self._host.cancelled():
            raise EditCancelled
        prepared = _with_notice(prepare(request))
        options.check()
        connection = connect(self._host.data_folder)
        return _Run(prepared, options, connection, self._host).carry_out()


def _with_notice(prepared: Prepared) -> Prepared:
    count = len(prepared.request.references)
    if count <= TRAINED_REFERENCES:
        return prepared
    notice = (
        f"the model was trained with {TRAINED_REFERENCES} pictures and is sent {count}: some may "
        "be overlooked; FireRed Stitch References puts them together"
    )
    return replace(prepared, notices=(*prepared.notices, notice))


class _Run:
    """One edit on its way through fal."""

    def __init__(
        self, prepared: Prepared, options: FalOptions, connection: Connection, host: RemoteHost
    ) -> None:
        self._prepared = prepared
        self._options = options
        self._host = host
        self._stopwatch = Stopwatch()
        self._places = ExitStack()
        price = estimate(prepared.plan.canvas, prepared.request.num_images)
        with self._stopwatch.phase("place"):
            pictures = [
                Picture.of(pixels, options.upload_quality)
                for pixels in prepared.placed_references()
            ]
        digests = [picture.digest for picture in pictures]
        order = order_of(prepared, options, digests, connection.key, price)
        journal = journal_in(host.data_folder)
        visit = new_visit(host.run_id)
        self._desk = Desk(connection.client(), journal, host, order, visit)
        storage = connection.storage(journal, host.settings.upload_lifetime_s)
        sender = Sender(storage, options.upload_quality)
        self._packing = Packing(
            self._desk, prepared, options, pictures, price, sender, self._places, self._stopwatch
        )
        self._placing = Placing(self._desk, self._packing)

    def carry_out(self) -> EditResult:
        try:
            result = self._edit()
        except BaseException:
            self._leave()
            raise
        self._host.when_run_ends(self._ended)
        return result

    def _edit(self) -> EditResult:
        entry, done = self._finished()
        source = "disk" if entry.state == "done" else "fal" if self._placing.sent else "attached"
        handover = Handover(self._prepared, self._options, entry, done)
        try:
            result = handover.result(source, self._packing.sent, self._stopwatch)
        except ResultError:
            # There is nothing else to have of this job: it is not offered again.
            self._desk.journal.delivered(entry.key)
            raise
        self._host.progress(100, 100)
        self._host.say(handover.summary(source))
        return result

    def _finished(self) -> tuple[Entry, Finished]:
        """The job with its pictures, ordered as often as it takes and paid once."""
        for order in count(1):
            entry = self._placing.place()
            try:
                return entry, self._bring(entry)
            except (JobGoneError, JobFailedError) as error:
                if self._placing.sent or not was_cancelled(error) or order == MAX_ORDERS:
                    raise
                self._host.phase(Phase("the earlier order was cancelled: ordering anew"))
        raise AssertionError("counting does not end")

    def _bring(self, entry: Entry) -> Finished:
        if entry.state == "done":
            if found := kept(self._desk.journal, entry):
                return found
            self._desk.journal.lost(entry.key)
            entry = replace(entry, state="result")
        with self._places, _naming(entry):
            if entry.state != "result":
                self._wait(entry)
            return self._fetch(entry)

    def _wait(self, entry: Entry) -> None:
        if not self._placing.sent:
            self._host.phase(Phase(ATTACHED, counted=AT_FAL))
        assert entry.job is not None
        cancelled = entry.state == "cancelling"
        follow = partial(self._desk.client.follow, entry.job, cancelled=cancelled)
        watch = Watch(follow, self._host, RunPace(self._prepared, whole=self._placing.sent))
        try:
            with self._stopwatch.phase("wait"), ending(self._desk.journal, entry):
                watch.wait()
        except EditCancelled:
            cancel(self._desk, entry, watch.state)
            raise
        except RemoteTimeoutError:
            collector_in(self._host.data_folder).follow(entry.key)
            raise

    def _fetch(self, entry: Entry) -> Finished:
        self._host.phase(Phase("downloading", counted=AT_FAL))
        finisher = Finisher(self._desk.client, self._desk.journal)
        with self._stopwatch.phase("fetch"):
            # Cancelled, it goes on to its end: it is paid for.
            try:
                return attend(lambda _: finisher.finish(entry), self._host)
            except ResultError as error:
                raise self._despair(entry, error) from error

    def _despair(self, entry: Entry, error: ResultError) -> ResultError:
        """A job without usable pictures is fetched again by each run, and never ordered again."""
        # Told now, the artist is not asked about it when the seed is changed.
        self._desk.journal.asked(entry.key, self._desk.visit.run_id)
        return ResultError(error.problem, NO_PICTURE)

    def _leave(self) -> None:
        self._places.close()
        with suppress(JournalError):
            self._desk.journal.leave(self._desk.visit)

    def _ended(self, well: bool) -> None:
        """The run is over: what it did not get to the end of is the artist's to collect."""
        with suppress(JournalError):
            if well:
                self._desk.journal.delivered(self._desk.order.key)
            self._desk.journal.leave(self._desk.visit)


@contextmanager
def _naming(entry: Entry) -> Iterator[None]:
    """Put the request id, by which fal's dashboard finds the job, into every error of it."""
    try:
        yield
    except (RemoteError, ResultError) as error:
        error.about(f"Request {entry.request_id}")
        raise
