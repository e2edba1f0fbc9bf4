"""Every fault of fal, met by an artist who queues the same edit again: what each run gives."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.pack import load_pack

load_pack()

from support.fal_artist import Found, Scenario, meet  # noqa: E402
from support.fal_matrix import FAULTS  # noqa: E402

COLUMNS = "{:<46} {:<20} {:<40} {:>9} {:>8} {:>9} {:>7}  {}\n"
TITLES = ("fault", "first run", "runs after it", "requests", "submits", "accepted", "billed", "")


def main() -> int:
    options = _options()
    sys.stdout.write(COLUMNS.format(*TITLES))
    found = []
    for scenario in FAULTS:
        if options.only in scenario.name:
            with tempfile.TemporaryDirectory(prefix="firered-fault-") as folder:
                found.append(meet(scenario, Path(folder), restarts=options.restarts))
            _tell(scenario, found[-1])
    twice = sum("billed twice" in each.broken for each in found)
    lost = sum("paid and lost" in each.broken for each in found)
    sys.stdout.write(f"faults {len(found)}, billed twice {twice}, paid and lost {lost}\n")
    return int(any(each.broken for each in found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", action="store_true", help="each run in a new process's state")
    parser.add_argument("--only", default="", metavar="WORDS", help="faults that have these words")
    return parser.parse_args()


def _tell(scenario: Scenario, found: Found) -> None:
    first, _, later = found.outcomes.partition(" > ")
    requests = "+".join(str(run.requests) for run in found.runs)
    remarks = list(found.broken)
    if scenario.unusable:
        remarks.append("nothing usable was made")
    if found.outcomes != scenario.outcomes:
        remarks.append(f"expected {scenario.outcomes}")
    counts = (requests, found.submits, found.accepted, found.billed)
    sys.stdout.write(
        COLUMNS.format(scenario.name, first, later or "-", *counts, "; ".join(remarks))
    )
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
