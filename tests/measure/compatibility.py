"""The pack with the oldest and newest libraries, newer frontends and other Pythons, over the tests.

Libraries and frontends are laid before the environment and nothing is installed into it. torch and
numpy stay as they are, since others need gigabytes each, and ComfyUI does, since no newer one is on
PyPI. Another Python gets an environment of its own, which goes afterwards.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
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

FRONTENDS = ("1.48.7", "1.58.1")
"""Of ComfyUI's page, the version that ComfyUI 0.31 brings and the newest known."""

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
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="for the libraries")
    parser.add_argument("--frontends", nargs="*", default=list(FRONTENDS))
    parser.add_argument("--pythons", nargs="*", default=[], help="interpreters; 7 GB for each")
    asked = parser.parse_args()
    held = [_holds(end.name, _resolved(end), asked.tests) for end in ENDS if end.name in asked.ends]
    for version in asked.frontends:
        package = f"comfyui-frontend-package=={version}"
        held.append(_holds(f"frontend {version}", [package], ["tests/browser"]))
    held += [_runs_on(python, asked.tests) for python in asked.pythons]
    return 0 if all(held) else 1


def _runs_on(interpreter: str, tests: list[str]) -> bool:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = settings["tool"]["hatch"]["envs"]["default"]["dependencies"]
    with tempfile.TemporaryDirectory(prefix="firered-python-") as folder:
        _uv("venv", "--quiet", "--python", interpreter, folder)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        known = ["--constraint", str(ROOT / "tests" / "constraints.txt")]
        _uv("pip", "install", "--quiet", "--python", str(python), *known, *wanted)
        status, words = _tested("", tests, str(python))
        sys.stdout.write(f"{interpreter}: {words}\n")
        return status == 0


def _holds(name: str, versions: list[str], tests: list[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="firered-compatibility-") as library:
        _uv("pip", "install", "--quiet", "--no-deps", "--target", library, *versions)
        sys.stdout.write(f"{name}: {', '.join(versions)}\n")
        sys.stdout.flush()
        status, words = _tested(library, tests)
        sys.stdout.write(f"{name}: {words}\n")
        return status == 0


def _resolved(end: End) -> list[str]:
    """``name==version`` of every library that is exchanged."""
    asked = (ROOT / "requirements.txt").read_text().split()
    wanted = [line for line in asked if not line.startswith(FIXED)]
    with tempfile.TemporaryDirectory(prefix="firered-compatibility-") as name:
        requirements, nothing = Path(name) / "asked.txt", Path(name) / "overrides.txt"
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


def _tested(library: str, tests: list[str], python: str = sys.executable) -> tuple[int, str]:
    """pytest's status and last words. What old libraries warn of is not ours to mend."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    lenient = ["-o", "filterwarnings=default", "--numprocesses", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [*command, *lenient, *tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": library},
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
