"""Mutation testing: would the tests notice if a line of the pack said something else?

mutmut changes one thing at a time, in a copy, and runs the tests that reach it. What no test
notices is listed; that may be a missing test, or a change that means the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.pack import NAME, ROOT
from support.registry import check_out


@dataclass(frozen=True)
class Part:
    """What is changed, and the tests that should notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "geometry": Part(
        ("pipeline/geometry.py",), ("test_geometry.py", "test_pixel_lock.py", "test_properties.py")
    ),
    "journal": Part(
        ("pipeline/fal/journal/*.py",),
        ("test_fal_journal.py", "test_fal_backlog.py"),
    ),
    "submit": Part(
        (
            "pipeline/fal/placing.py",
            "pipeline/fal/protocol/submitting.py",
            "pipeline/fal/protocol/repeating.py",
        ),
        ("test_fal_once.py", "test_fal_client.py", "test_fal_repeating.py"),
    ),
}

CAUGHT = frozenset({"killed", "timeout", "segfault", "caught by type check"})
"""What became of a change that was noticed."""

LEAST = 0.90
"""The share of changes that has to be noticed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    asked = parser.parse_args()
    enough = [_is_enough(name, asked.processes, asked.keep) for name in asked.parts]
    return 0 if all(enough) else 1


def _is_enough(name: str, processes: int, keep: Path | None) -> bool:
    with tempfile.TemporaryDirectory(prefix="firered-mutants-") as temporary:
        folder = (keep or Path(temporary)) / name
        _lay_out(folder, PARTS[name])
        _mutmut(folder, "run", "--max-children", str(processes))
        return _report(name, folder)


def _lay_out(folder: Path, part: Part) -> None:
    """The pack as a package in ``folder``: mutmut calls modules by their paths from there."""
    check_out(ROOT, folder / NAME)
    # The name of a module is to be that of its folder, and the tests' own settings are in there.
    settings = {
        "source_paths": [NAME],
        "only_mutate": [f"{NAME}/{file}" for file in part.files],
        "pytest_add_cli_args": [
            *("-c", f"{NAME}/pyproject.toml"),
            *("-p", "no:cacheprovider", "-o", "filterwarnings=default"),
        ],
        "pytest_add_cli_args_test_selection": [f"{NAME}/tests/unit/{file}" for file in part.tests],
        # Some changes wait for ever.
        "timeout_multiplier": 5.0,
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (folder / "pyproject.toml").write_text("\n".join(["[tool.mutmut]", *lines, ""]))


def _mutmut(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "mutmut", *words]
    shown = None if words[0] == "run" else subprocess.PIPE
    done = subprocess.run(command, cwd=folder, check=True, stdout=shown, text=True)
    return done.stdout or ""


def _report(name: str, folder: Path) -> bool:
    """Print how many changes were noticed and each that was not; whether they are enough."""
    fates = dict(_fates(_mutmut(folder, "results", "--all", "true")))
    caught = sum(fate in CAUGHT for fate in fates.values())
    for mutant in (mutant for mutant, fate in fates.items() if fate not in CAUGHT):
        sys.stdout.write(f"\n{fates[mutant]}: {_mutmut(folder, 'show', mutant)}")
    share = caught / len(fates)
    sys.stdout.write(f"\n{name}: {caught} of {len(fates)} changes noticed, {share:.1%}\n")
    return share >= LEAST


def _fates(listed: str) -> list[tuple[str, str]]:
    pairs = (line.strip().rpartition(": ") for line in listed.splitlines() if ": " in line)
    return [(mutant, fate) for mutant, _, fate in pairs]


if __name__ == "__main__":
    raise SystemExit(main())
