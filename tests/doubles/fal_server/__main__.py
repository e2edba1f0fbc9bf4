"""Run the double as a process of its own, until its stdin closes or SIGTERM comes."""

import argparse
import importlib
import json
import signal
import sys
from typing import Any

from .server import FalServer
from .settings import Runner


def _runner(name: str) -> Runner:
    module, _, attribute = name.partition(":")
    runner: Runner = getattr(importlib.import_module(module), attribute)
    return runner


def _options() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="doubles.fal_server", description=__doc__)
    parser.add_argument("--port", type=int)
    parser.add_argument("--key")
    parser.add_argument("--runner", type=_runner, metavar="MODULE:CALLABLE")
    parser.add_argument("--rounding", choices=["exact", "floor16", "refit1mp32"])
    parser.add_argument("--queue-seconds", type=float)
    parser.add_argument("--run-seconds", type=float)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--cancellable", action="store_true")
    given = vars(parser.parse_args())
    return {name: value for name, value in given.items() if value is not None}


def _addresses(server: FalServer) -> dict[str, str]:
    return {
        "url": server.url,
        "https_host": server.https_host,
        "run_host": server.run_host,
        "ca_file": str(server.ca_file),
        "key": server.key,
    }


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with FalServer(**_options()) as server:
        sys.stdout.write(json.dumps(_addresses(server)) + "\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
