"""The answer to each kind of request."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from . import access
from .faults import Phase
from .history import history
from .jobs import Job, Snapshot
from .outcomes import Outcome
from .replies import Call, Reply
from .scheduler import Scheduler
from .settings import APP_ID, Settings
from .storage import Storage

PING = b": ping\n\n"

DEFAULT_CONTENT_TYPE = "application/octet-stream"


class Api:
    def __init__(self, settings: Settings, scheduler: Scheduler, storage: Storage) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._storage = storage
        self._about_jobs: dict[Phase, Callable[[Call, Job], Reply]] = {
            "status": self._status,
            "stream": self._stream,
            "result": self._result,
            "cancel": self._cancel,
        }
        self._others: dict[Phase, Callable[[Call], Reply]] = {
            "submit": self._submit,
            "run": self._run,
            "history": self._history,
            "token": self._token,
            "initiate": self._initiate,
            "upload": self._upload,
            "get": self._get,
        }

    def answer(self, phase: Phase, request_id: str, call: Call) -> Reply:
        if refusal := access.refusal(phase, call, self._settings, self._storage):
            return refusal
        if answer := self._others.get(phase):
            return answer(call)
        job = self._scheduler.find(request_id)
        if job is None:
            return _not_found(phase)
        return self._about_jobs[phase](call, job)

    def _submit(self, call: Call) -> Reply:
        limit = call.query.get("fal_max_queue_length")
        if limit is not None and self._scheduler.queue_length > int(limit):
            return Reply.detail(429, f"The queue is longer than {limit}.")
        accepted = self._accept(call)
        if isinstance(accepted, Reply):
            return accepted
        document: dict[str, Any] = {
            "status": "IN_QUEUE",
            "queue_position": self._scheduler.snapshot(accepted).position,
            "logs": None,
            "metrics": {},
            **_addresses(call, accepted),
        }
        return Reply.json(200, document, _identified(accepted))

    def _accept(self, call: Call) -> Job | Reply:
        try:
            arguments = json.loads(call.body)
        except ValueError:
            return Reply.detail(400, "The body is not valid JSON.")
        job = Job(arguments, call.headers, call.file_origin)
        self._scheduler.submit(job)
        return job

    def _status(self, call: Call, job: Job) -> Reply:
        now = self._scheduler.snapshot(job)
        document = _status_document(call, job, now, 0)
        return Reply.json(200 if now.state == "COMPLETED" else 202, document, _identified(job))

    def _stream(self, call: Call, job: Job) -> Reply:
        return Reply(200, headers=_identified(job), events=self._events(call, job))

    def _events(self, call: Call, job: Job) -> Iterator[bytes]:
        for change in self._scheduler.follow(job):
            if change is None:
                yield PING
                continue
            before, after = change
            document = _status_document(call, job, after, before.lines)
            yield f"data: {json.dumps(document)}\n\n".encode()

    def _result(self, _call: Call, job: Job) -> Reply:
        if job.outcome is None:
            return Reply.detail(400, "Request is still in progress", _identified(job))
        return _outcome_reply(job, job.outcome)

    def _cancel(self, _call: Call, job: Job) -> Reply:
        if self._scheduler.cancel(job):
            return Reply.json(202, {"status": "CANCELLATION_REQUESTED"}, _identified(job))
        return Reply.json(400, {"status": "ALREADY_COMPLETED"}, _identified(job))

    def _run(self, call: Call) -> Reply:
        # Only a direct call is refused for concurrency; the queue just lets a job wait.
        if self._scheduler.saturated:
            detail = {"detail": "Too many requests.", "error_type": "concurrent_requests_limit"}
            return Reply.json(429, detail, {"X-Fal-needs-retry": "1"})
        accepted = self._accept(call)
        if isinstance(accepted, Reply):
            return accepted
        return _outcome_reply(accepted, self._scheduler.wait(accepted))

    def _history(self, call: Call) -> Reply:
        with_running = self._settings.history_lists_running
        return Reply.json(200, history(self._scheduler.jobs, call.query, with_running))

    def _token(self, call: Call) -> Reply:
        return Reply.json(200, self._storage.grant(call.file_origin))

    def _initiate(self, call: Call) -> Reply:
        wanted = json.loads(call.body)
        lifecycle = call.headers.get("x-fal-object-lifecycle-preference", "")
        upload_path, path = self._storage.reserve(
            wanted["content_type"], wanted["file_name"], lifecycle
        )
        document = {
            "upload_url": call.file_origin + upload_path,
            "file_url": call.file_origin + path,
        }
        return Reply.json(200, document)

    def _upload(self, call: Call) -> Reply:
        content_type = call.headers.get("content-type", DEFAULT_CONTENT_TYPE)
        if call.method == "PUT":
            filled = self._storage.fill(call.path, call.body, content_type)
            return Reply() if filled else Reply(403)
        name = call.headers.get("x-fal-file-name", "")
        lifecycle = call.headers.get("x-fal-object-lifecycle", "")
        path = self._storage.put(call.body, content_type, name, lifecycle)
        return Reply.json(200, {"access_url": call.file_origin + path})

    def _get(self, call: Call) -> Reply:
        stored = self._storage.find(call.target)
        if stored is None:
            return Reply(404)
        return Reply(200, stored.data, {"Content-Type": stored.content_type})


def _identified(job: Job) -> dict[str, str]:
    return {"x-fal-request-id": job.request_id}


def _not_found(phase: Phase) -> Reply:
    if phase == "cancel":
        return Reply.json(404, {"status": "NOT_FOUND"})
    return Reply.detail(404, "Not Found" if phase == "unknown" else "Request not found")


def _outcome_reply(job: Job, outcome: Outcome) -> Reply:
    return Reply.json(outcome.status, outcome.document, _identified(job) | outcome.headers)


def _addresses(call: Call, job: Job) -> dict[str, str]:
    response_url = f"{call.origin}/{APP_ID}/requests/{job.request_id}"
    return {
        "request_id": job.request_id,
        "response_url": response_url,
        "status_url": f"{response_url}/status",
        "cancel_url": f"{response_url}/cancel",
    }


def _status_document(call: Call, job: Job, now: Snapshot, first_line: int) -> dict[str, Any]:
    document: dict[str, Any] = {"status": now.state, **_addresses(call, job)}
    if now.state == "IN_QUEUE":
        return document | {"queue_position": now.position}
    document["logs"] = job.logs[first_line : now.lines] if call.wants_logs else None
    if job.outcome is not None and now.state == "COMPLETED":
        document["metrics"] = {"inference_time": job.duration}
        if job.outcome.error_type is not None:
            document["error"] = job.outcome.document["detail"]
            document["error_type"] = job.outcome.error_type
    return document
