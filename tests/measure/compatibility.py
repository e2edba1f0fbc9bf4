"""The pack with the oldest and the newest of the libraries it asks for, over the same tests.

The libraries are laid before those of the environment and nothing is installed into it. torch,
numpy and ComfyUI stay as they are: others need gigabytes each.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.pack import ROOT

FIXED = ("torch", "numpy")
"""Of requirements.txt, what is not exchanged."""

ALONG = ("tokenizers", "huggingface-hub")
"""What transformers holds to a range of its own."""

TESTS = (
    "tests/unit/test_local_engine.py",
    "tests/unit/test_acceleration.py",
    "tests/unit/test_single_files.py",
    "tests/unit/test_loras.py",
    "tests/unit/test_encoding.py",
    "tests/unit/test_images.py",
    "tests/unit/test_fal_engine.py",
)
"""Loading, reading, denoising and decoding against the stock pipeline; pictures; fal over HTTP."""

SUMMARY = re.compile(r"\d+ (passed|failed|error).* in [\d.]+s")


@dataclass(frozen=True)
class End:
    """One end of the ranges, and how uv is asked for it."""

    name: str
    resolution: str


ENDS = (End("oldest", "lowest-direct"), End("newest", "highest"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ends", nargs="*", default=[end.name for end in ENDS])
    parser.add_argument("--tests", nargs="*", default=list(TESTS))
    asked = parser.parse_args()
    failed = [end.name for end in ENDS if end.name in asked.ends and not _holds(end, asked.tests)]
    return 1 if failed else 0


def _holds(end: End, tests: list[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix=f"firered-{end.name}-") as name:
        folder = Path(name)
        versions = _resolved(end, folder)
        _uv("pip", "install", "--quiet", "--no-deps", "--target", str(folder / "lib"), *versions)
        sys.stdout.write(f"{end.name}: {', '.join(versions)}\n")
        sys.stdout.flush()
        status, words = _tested(folder / "lib", tests)
        sys.stdout.write(f"{end.name}: {words}\n")
        return status == 0


def _resolved(end: End, folder: Path) -> list[str]:
    """``name==version`` of every library that is exchanged."""
    asked = (ROOT / "requirements.txt").read_text().split()
    wanted = [line for line in asked if not line.startswith(FIXED)]
    requirements, nothing = folder / "asked.txt", folder / "overrides.txt"
    requirements.write_text("\n".join([*wanted, *ALONG]))
    # accelerate asks for torch; a version for no Python at all is none.
    nothing.write_text('torch ; python_version < "3"\n')
    found = _uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate"),
        *("--resolution", end.resolution, "--override", str(nothing), str(requirements)),
    )
    names = {re.split("[><=]", line)[0] for line in [*wanted, *ALONG]}
    return [line for line in found.split() if line.split("==")[0] in names]


def _uv(*arguments: str) -> str:
    # Not the versions that the environment is held to.
    settings = {key: value for key, value in os.environ.items() if key != "UV_CONSTRAINT"}
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
    return done.stdout


def _tested(library: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's status and last words. What old libraries warn of is not ours to mend."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    lenient = ["-o", "filterwarnings=default"]
    done = subprocess.run(
        [*command, *lenient, *tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(library)},
        check=False,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    words = next((line for line in reversed(lines) if SUMMARY.search(line)), lines[-1])
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, "\n  ".join([words.strip("= "), *failures])


if __name__ == "__main__":
    raise SystemExit(main())
