"""A thousand edits on a loopback fal, with faults all the way and processes that are killed.

Several processes share one journal, and some edits are given to two of them. Faults come at a fixed
rate and at random, over every phase of the protocol; at random times a process is killed and
started again with what is left of its list. In the end no edit may be billed twice, nothing that
was billed may be lost, and no process may have grown. Exit status 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.fal_soaks import Plan, carry_out
from support.fal_tally import Outcome, is_flat
from support.fal_worker import Footprint

MEBIBYTE = 1024 * 1024


def tell(plan: Plan, found: Outcome) -> None:
    """What came of the soak, line by line."""
    rate = len(found.ended) / found.seconds
    lines = {
        "edits": f"{plan.edits}, carried out {len(found.ended)} times",
        "delivered": str(len(found.delivered)),
        "errors": _counts(found.errors),
        "given up": "; ".join(f"{e.number}: {e.outcome}" for e in found.undelivered) or "none",
        "requests": str(found.requests),
        "faults": f"{found.planned.total()} planned, {found.taken} taken: {_counts(found.planned)}",
        "kills": str(found.kills),
        "submits": str(found.submits),
        "billed": f"{found.bills.total()}, for {len(found.bills)} edits",
        "billed twice": f"{len(found.billed_twice)} {found.billed_twice[:5] or ''}",
        "lost": f"{len(found.lost)} {found.lost[:5] or ''}",
        "left to collect": str(len(found.backlog)),
        "time": f"{found.seconds:.1f} s, {rate:.1f} edits/s",
    }
    for name, value in lines.items():
        sys.stdout.write(f"{name:<16} {value}\n")
    for number, footprints in enumerate(found.footprints, 1):
        sys.stdout.write(f"process {number:<8} {_growth(footprints)}\n")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


def _growth(footprints: Sequence[Footprint]) -> str:
    stages = [
        f"{each.rss / MEBIBYTE:.0f} MiB, {each.threads} threads, {each.files} files, "
        f"{each.sockets} sockets after {each.done}"
        for each in footprints
    ]
    return f"{' | '.join(stages)}: {'flat' if is_flat(footprints) else 'GROWN'}"


def _plan() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Plan):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
    return Plan(**vars(parser.parse_args()))


def main() -> int:
    plan = _plan()
    found = carry_out(plan)
    tell(plan, found)
    return 0 if found.is_sound and found.is_flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
