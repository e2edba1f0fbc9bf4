"""fal's own client, pointed at the double.

It reads its hosts when it is imported, so every server needs one in a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .server import FalServer

PROCESS = Path(__file__).with_name("official_process.py")

Call = Callable[..., dict[str, Any]]
"""Takes the name and the arguments of a method of fal's client.

Returns its `value` and, for a subscription, the `updates` it saw; or the `status`, `type` and
`message` of the error that it raised.
"""

Way = Callable[[FalServer], dict[str, str]]


def direct(server: FalServer) -> dict[str, str]:
    return {"FAL_RUN_HOST": server.run_host, "FAL_QUEUE_RUN_HOST": server.https_host}


def proxied(server: FalServer) -> dict[str, str]:
    return {"HTTPS_PROXY": server.url}


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what might lead a client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | changes


@contextmanager
def official_client(server: FalServer, way: Way = direct) -> Iterator[Call]:
    settings = {"FAL_KEY": server.key, "SSL_CERT_FILE": str(server.ca_file), **way(server)}
    process = subprocess.Popen(
        [sys.executable, PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(**settings),
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def call(method: str, **arguments: Any) -> dict[str, Any]:
            asked.write(json.dumps([method, arguments]) + "\n")
            asked.flush()
            answer: dict[str, Any] = json.loads(answered.readline())
            return answer

        yield call
