"""The queue: who waits, who runs, who was cancelled."""

import math
import threading
import time
from collections.abc import Iterator

from .app import App
from .jobs import Job, Snapshot
from .outcomes import CANCELLED, OVERDUE, Outcome
from .settings import Settings

RUNNER_GRACE_SECONDS = 5.0
"""How long closing waits for a runner that is in the middle of a picture."""

UNSEEN = Snapshot("IN_QUEUE", 0, 0)


class Scheduler:
    """Every job lives in a thread of its own; one condition guards and announces every change."""

    def __init__(self, settings: Settings, app: App) -> None:
        self.jobs: list[Job] = []
        self.closing = threading.Event()
        self._settings = settings
        self._app = app
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running = 0
        self._threads: list[threading.Thread] = []

    @property
    def queue_length(self) -> int:
        return len(self._waiting)

    @property
    def saturated(self) -> bool:
        return self._running >= self._settings.concurrency

    def submit(self, job: Job) -> None:
        thread = threading.Thread(target=self._live, args=(job,), daemon=True)
        with self._changed:
            if self._settings.queue_seconds:
                job.strangers = self._settings.queue_ahead
            self.jobs.append(job)
            self._waiting.append(job)
            self._threads.append(thread)
        thread.start()

    def find(self, request_id: str) -> Job | None:
        for job in self.jobs:
            if job.request_id == request_id and job.state != "REMOVED":
                return job
        return None

    def cancel(self, job: Job) -> bool:
        """Ask a job to stop; False when it has already completed."""
        with self._changed:
            if job.state == "COMPLETED":
                return False
            job.cancelling = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = "REMOVED"
            self._changed.notify_all()
            return True

    def snapshot(self, job: Job) -> Snapshot:
        with self._changed:
            return self._snapshot(job)

    def follow(self, job: Job) -> Iterator[tuple[Snapshot, Snapshot] | None]:
        """Each change as (before, after); None when nothing has changed for a ping's time."""
        before: Snapshot | None = None
        while (after := self._next(job, before)) is not None:
            yield None if after == before else (before or UNSEEN, after)
            if after.state == "COMPLETED":
                return
            before = after

    def wait(self, job: Job) -> Outcome:
        with self._changed:
            self._changed.wait_for(lambda: self.closing.is_set() or job.outcome is not None)
            return job.outcome or CANCELLED

    def close(self) -> None:
        with self._changed:
            self.closing.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(RUNNER_GRACE_SECONDS)

    def _next(self, job: Job, before: Snapshot | None) -> Snapshot | None:
        """The next news, or `before` again after a ping's time; None when there is no more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.closing.is_set() or self._snapshot(job) != before,
                self._settings.ping_seconds,
            )
            after = self._snapshot(job)
        return None if self.closing.is_set() or after.state == "REMOVED" else after

    def _snapshot(self, job: Job) -> Snapshot:
        waits = job in self._waiting
        position = job.strangers + self._waiting.index(job) if waits else 0
        return Snapshot(job.state, position, len(job.logs))

    def _live(self, job: Job) -> None:
        if not self._reach_front(job):
            return
        outcome = self._work(job)
        with self._changed:
            self._running -= 1
            job.complete(outcome)
            self._changed.notify_all()

    def _reach_front(self, job: Job) -> bool:
        """Wait until the job may run; False when it never will."""
        with self._changed:
            while job.strangers and not self._left(job):
                pause = self._settings.queue_seconds / self._settings.queue_ahead
                self._changed.wait_for(lambda: self._left(job), _patience(job, pause))
                job.strangers -= 1
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._left(job) or self._is_next(job), _patience(job))
            if self._left(job):
                return False
            self._waiting.remove(job)
            overdue = time.monotonic() >= job.deadline
            if overdue:
                job.complete(OVERDUE)
            else:
                job.start()
                self._running += 1
            self._changed.notify_all()
            return not overdue

    def _left(self, job: Job) -> bool:
        return self.closing.is_set() or job not in self._waiting

    def _is_next(self, job: Job) -> bool:
        return self._waiting[0] is job and not self.saturated

    def _work(self, job: Job) -> Outcome:
        edit = self._app.prepare(job.arguments)
        if isinstance(edit, Outcome):
            return edit
        if not self._step(job, edit.steps):
            return CANCELLED
        outcome = self._app.render(edit, job.file_origin)
        return CANCELLED if self._stopped(job) else outcome

    def _step(self, job: Job, steps: int) -> bool:
        """Spend the time that a run takes; False when the job is to stop."""
        pause = self._settings.run_seconds / steps
        with self._changed:
            for step in range(1, steps + 1):
                if self._changed.wait_for(lambda: self._stopped(job), pause):
                    return False
                job.log(f"step {step}/{steps}")
                self._changed.notify_all()
        return True

    def _stopped(self, job: Job) -> bool:
        return self.closing.is_set() or (job.cancelling and self._settings.cancellable)


def _patience(job: Job, seconds: float = math.inf) -> float | None:
    """How long to wait, as a condition wants to be told: None is for ever."""
    patience = min(seconds, max(0.0, job.deadline - time.monotonic()))
    return None if patience == math.inf else patience
