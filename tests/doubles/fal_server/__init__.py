"""A loopback server that speaks fal's queue protocol for FireRed-Image-Edit 1.1.

    with FalServer(queue_seconds=0.2, run_seconds=0.5) as server:
        server.fail("result", Fault.truncate())
        ...                                      # a client is pointed at server.url
        assert server.billed == 1

A prompt may carry marks: `[nsfw]` and `[nsfw:1]` flag pictures, `[policy]` refuses the prompt,
`[error:runner_disconnected]` (any of fal's infrastructure errors) fails the job.
"""

from .faults import Fault
from .jobs import Job
from .server import FalServer
from .settings import Runner

__all__ = ["FalServer", "Fault", "Job", "Runner"]
