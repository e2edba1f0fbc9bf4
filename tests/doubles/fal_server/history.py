"""The request history of fal's platform API."""

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from .jobs import Job
from .settings import APP_ID

DEFAULT_LIMIT = 50


def history(jobs: Iterable[Job], query: Mapping[str, str], with_running: bool) -> dict[str, Any]:
    """One page, latest first."""
    listed = [
        job
        for job in jobs
        if (job.ended_at is not None or (with_running and job.state != "REMOVED"))
        and _asked_for(job, query)
    ]
    listed.reverse()
    limit = int(query.get("limit", DEFAULT_LIMIT))
    page = int(base64.b64decode(query.get("cursor", "MQ==")))
    has_more = len(listed) > page * limit
    expanded = "payloads" in query.get("expand", "")
    return {
        "items": [_item(job, expanded) for job in listed[(page - 1) * limit : page * limit]],
        "next_cursor": base64.b64encode(str(page + 1).encode()).decode() if has_more else None,
        "has_more": has_more,
    }


def _asked_for(job: Job, query: Mapping[str, str]) -> bool:
    return (
        query.get("endpoint_id") == APP_ID
        and query.get("request_id", job.request_id) == job.request_id
        and ("start" not in query or job.sent_at >= _moment(query["start"]))
        and ("end" not in query or job.sent_at < _moment(query["end"]))
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _item(job: Job, expanded: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "request_id": job.request_id,
        "endpoint_id": APP_ID,
        "sent_at": job.sent_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
        "status_code": job.outcome.status if job.outcome else None,
        "duration": job.duration,
    }
    if expanded:
        item["json_input"] = job.arguments
        item["json_output"] = job.outcome.document if job.outcome else None
    return item
