"""The measures start; what they print is for people, and takes minutes."""

from __future__ import annotations

import subprocess
import sys

from support.pack import ROOT

ASK = """
import contextlib, io, pathlib, runpy, sys

for script in sorted(pathlib.Path("tests/measure").glob("*.py")):
    sys.argv = [str(script), "--help"]
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        print(script.stem, end.code, "usage:" in told.getvalue())
"""
"""All in one process: most of the time goes into importing torch."""


def test_every_measure_says_what_it_does() -> None:
    asked = [sys.executable, "-c", ASK]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert told.returncode == 0, told.stderr
    scripts = sorted(file.stem for file in (ROOT / "tests" / "measure").glob("*.py"))
    assert told.stdout.splitlines() == [f"{script} 0 True" for script in scripts]
