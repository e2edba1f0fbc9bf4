"""The measures start; what they print is for people, and takes minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.pack import ROOT

MEASURES = sorted((ROOT / "tests" / "measure").glob("*.py"))


@pytest.mark.parametrize("script", MEASURES, ids=lambda script: script.stem)
def test_a_measure_says_what_it_does(script: object) -> None:
    asked = [sys.executable, str(script), "--help"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr
    assert "usage:" in told.stdout
