"""An edit on fal whose process is killed at every point of its way: what those after it give."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.pack import load_pack

load_pack()

from support.fal_deaths import POINTS, After, Mortal, Point, Sequel, after, mortal  # noqa: E402

COLUMNS = "{:<32} | {:<26} {:>7} {:>6} | {:<27} {:>7} {:>6} | {}\n"
COUNTS = ("submits", "billed")
TITLES = ("killed", "same seed", *COUNTS, "changed seed", *COUNTS, "start-up")
SEQUELS: tuple[Sequel, ...] = ("same seed", "changed seed", "start-up")


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.stdout.write(COLUMNS.format(*TITLES))
    found: list[After] = []
    with mortal() as forked:
        for point in POINTS:
            rows = [_after(point, sequel, forked) for sequel in SEQUELS]
            found += rows
            _tell(point, rows)
    twice = sum(each.billed > 1 for each in found)
    lost = sum(not each.well and each.billed <= 1 for each in found)
    sys.stdout.write(f"deaths {len(found)}, billed twice {twice}, paid and lost {lost}\n")
    return int(not all(each.well for each in found))


def _after(point: Point, sequel: Sequel, forked: Mortal) -> After:
    with tempfile.TemporaryDirectory(prefix="firered-kill-") as folder:
        return after(point, sequel, forked, Path(folder))


def _tell(point: Point, rows: list[After]) -> None:
    same, changed, started = rows
    cells = [same.outcomes, same.submits, same.billed]
    cells += [changed.outcomes, changed.submits, changed.billed, started.outcomes]
    sys.stdout.write(COLUMNS.format(point.name, *cells))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
