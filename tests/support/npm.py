"""Packages of JavaScript, for checks that are made where node and its index are to be had."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL_SECONDS = 30.0


def program(name: str) -> str:
    """The path of ``node`` or ``npm``; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def install(folder: Path, *packages: str) -> None:
    """Install exact versions into an empty folder, or skip the test where that is not possible."""
    # Without a manifest of its own, npm would look for one in the folders above.
    (folder / "package.json").write_text("{}")
    quietly = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    # What a package of types would like beside it is as large as the page itself.
    alone = ["--legacy-peer-deps"]
    once = ["--fetch-retries=0", f"--fetch-timeout={INSTALL_SECONDS * 1000:.0f}"]
    try:
        subprocess.run(
            [program("npm"), "install", *quietly, *alone, *once, *packages],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").partition("\n")[0]
        pytest.skip(f"{' '.join(packages)} cannot be installed: {reason}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{' '.join(packages)} was not installed within {INSTALL_SECONDS:g} s")
