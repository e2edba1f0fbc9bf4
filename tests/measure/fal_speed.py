"""What an edit on fal takes beyond the model's own time: our engine beside others' clients.

The others are fal's own client for Python and a poller that asks every second. All three talk TLS
to one loopback fal through a relay that makes the line long. Each is warm: an edit that is not
counted precedes every one that is, since httpx drops connections after 5 s.

Overhead is the time from the call until the client has what it needs to ask for the picture, less
the time the job ran as fal measures it. Encoding the reference and sending it is part of that, and
shown once more as "to submit". All edits are of one picture, as when an artist tries prompts and
seeds: ours encodes it with the first edit only (what that takes, encoding.py tells). Fetching and
decoding the picture stands apart as "download".

Then a hundred edits at once through our engine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from doubles.fal_server import FalServer
from support.fal_clients import CLIENTS
from support.fal_samples import (
    ALLOWED_REQUESTS,
    CROWD,
    CROWD_LIMIT,
    CROWD_SECONDS,
    CROWD_THREADS,
    Case,
    Crowd,
    Row,
    compare,
    crowd,
    running,
)
from support.slow_line import SlowLine

CROWD_ALLOWED = 1.1
"""Of the time that the account's limit makes inevitable."""

TITLES = (
    *("trip", "model", "client", "overhead ms", "x ours", "to submit ms", "download ms"),
    *("requests", "opened", "CPU ms"),
)
COLUMNS = "{:>5} {:>5}  {:<10} {:>24} {:>6} {:>18} {:>19} {:>11} {:>8} {:>19}\n"


def tell(rows: list[Row]) -> None:
    """One case: a line for each client, and whether ours keeps to what is allowed."""
    mine, case = rows[0], rows[0].case
    for row in rows:
        ratio = row.median("overhead_ms") / mine.median("overhead_ms")
        cells = [
            f"{case.round_trip_ms}ms",
            f"{case.model_s:g}s",
            row.client,
            row.spread("overhead_ms"),
            f"{ratio:.2f}",
            row.spread("submit_ms"),
            row.spread("download_ms"),
            row.spread("requests", 0),
            row.spread("connections", 0),
            row.spread("cpu_ms"),
        ]
        sys.stdout.write(COLUMNS.format(*cells))
    quick = mine.median("overhead_ms") <= case.allowed_ms
    few = mine.median("requests") <= ALLOWED_REQUESTS
    sys.stdout.write(
        f"             ours: overhead <= {case.allowed_ms:g} ms: {_yes(quick)}; "
        f"<= {ALLOWED_REQUESTS} requests: {_yes(few)}\n"
    )
    sys.stdout.flush()


def tell_crowd(found: Crowd) -> None:
    share = found.wall_s / found.ideal_s
    sys.stdout.write(
        f"{CROWD} edits at once on {CROWD_THREADS} threads, {CROWD_LIMIT} run at a time for "
        f"{CROWD_SECONDS:g} s: {found.wall_s:.2f} s, {share:.3f} of the ideal {found.ideal_s:g} s "
        f"(<= {CROWD_ALLOWED}: {_yes(share <= CROWD_ALLOWED)})\n"
        f"{found.requests_per_edit:.2f} requests and {found.cpu_ms_per_edit:.1f} ms CPU an edit, "
        f"{found.connections} new connections, billed {found.billed}\n"
    )


def _yes(fulfilled: bool) -> str:
    return "yes" if fulfilled else "NO"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short form, in a minute")
    parser.add_argument("--long", action="store_true", help="also a model time of 12 s")
    parser.add_argument("--rounds", type=int, help="edits per client and case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample, to this file")
    return parser.parse_args()


def main() -> int:
    options = _options()
    cases, rounds = _cases(options)
    document: dict[str, Any] = {"rounds": rounds, "rows": []}
    with ExitStack() as stack:
        server = stack.enter_context(FalServer())
        line = stack.enter_context(SlowLine(int(server.https_host.rpartition(":")[2])))
        clients = [stack.enter_context(running(name, server, line)) for name in CLIENTS]
        sys.stdout.write(f"Median (least..most) of {rounds} edits.\n" + COLUMNS.format(*TITLES))
        for case in cases:
            rows = compare(server, line, clients, case, rounds)
            tell(rows)
            document["rows"] += map(_plain, rows)
        found = crowd(server, line, clients[0])
        tell_crowd(found)
        document["crowd"] = asdict(found)
    if options.json:
        options.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


def _cases(options: argparse.Namespace) -> tuple[list[Case], int]:
    round_trips: Sequence[int] = (0, 40, 80)
    model_times, rounds = [0.0, 2.0], 5
    if options.quick:
        round_trips, model_times, rounds = (0, 40), [0.0, 1.0], 3
    if options.long:
        model_times.append(12.0)
    cases = itertools.starmap(Case, itertools.product(round_trips, model_times))
    return list(cases), options.rounds or rounds


def _plain(row: Row) -> dict[str, Any]:
    samples = [sample._asdict() for sample in row.samples]
    return {**row.case._asdict(), "client": row.client, "samples": samples}


if __name__ == "__main__":
    raise SystemExit(main())
