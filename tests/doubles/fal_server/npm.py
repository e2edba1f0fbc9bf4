"""fal's JavaScript client, pointed at the double."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .official import environment
from .server import FalServer

PACKAGE = "@fal-ai/client@1.10.1"

PROCESS = Path(__file__).with_name("npm_process.mjs")

Call = Callable[..., dict[str, Any]]
"""Takes the name and the parameters of a method of the client.

Returns its `value`, if it has one, and the `updates` that a subscription saw; or the `type`,
`status`, `message`, `body`, `request_id` and `fields` of the error that it raised.
"""


@contextmanager
def npm_client(server: FalServer, node: str, folder: Path) -> Iterator[Call]:
    """The client of the package that is installed in `folder`, in a process of its own."""
    process = subprocess.Popen(
        [node, PROCESS, folder, server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(FAL_KEY=server.key),
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def call(method: str, *parameters: Any) -> dict[str, Any]:
            asked.write(json.dumps([method, parameters]) + "\n")
            asked.flush()
            answer: dict[str, Any] = json.loads(answered.readline())
            return answer

        yield call
