"""What the pack's part of the page asks of the server.

Whoever can open ComfyUI may ask, as with ComfyUI's own routes; pages of other sites may not. What
has to do with the fal key is for pages on this computer alone (``guarding``).
"""

from __future__ import annotations

from server import PromptServer

from . import cache, jobs, key
from .answering import answering

GET = {
    "/firered/jobs": jobs.waiting,
    "/firered/cache": cache.kept,
    "/firered/key": key.status,
}

POST = {
    "/firered/jobs/collect": jobs.collect,
    "/firered/jobs/give_up": jobs.give_up,
    "/firered/cache/clear": cache.clear,
    "/firered/key": key.save,
    "/firered/key/remove": key.remove,
    "/firered/key/test": key.try_out,
}


def register() -> None:
    """Add the routes to ComfyUI's; without a server, or asked again, nothing happens."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", "") in GET for route in server.routes):
        return
    for path, work in GET.items():
        server.routes.get(path)(answering(work))
    for path, work in POST.items():
        server.routes.post(path)(answering(work))
