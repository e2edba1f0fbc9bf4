"""Loading holds one copy of the weights, measured on a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.pack import ROOT

LIMIT = 1.15
GIGABYTES = 1.3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
def test_a_single_file_takes_little_more_memory_than_its_size() -> None:
    command = [sys.executable, "tests/measure/load_memory.py", "--gigabytes", str(GIGABYTES)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(finished.stdout)
    assert found["file_gib"] > 1
    # Every weight was read, so a figure far below one would mean that nothing was measured.
    assert 0.95 < found["loaded and read"] <= found["peak on the way"] <= LIMIT
    assert found["after a LoRA on one layer"] <= LIMIT
    assert found["without it again"] <= LIMIT
