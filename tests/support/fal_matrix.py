"""All faults of fal, from the name of its host to the last picture."""

from __future__ import annotations

from support import fal_job_scenarios as job
from support import fal_scenarios as order
from support.fal_artist import Scenario

FAULTS: list[Scenario] = [
    *(*order.WAY, *order.ACCOUNT, *order.REFUSED, *order.SUBMIT, *order.STORAGE, *order.DISK),
    *(*job.STREAM, *job.STATUS, *job.RESULT, *job.ENDS, *job.PICTURE),
]
