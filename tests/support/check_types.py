"""Type-check the pack under a proper package name, whatever its folder is called."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pack import NAME, ROOT


def main() -> int:
    """mypy over a copy that is named like a package; returns mypy's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / NAME
        for room in ("nodes", "pipeline"):
            shutil.copytree(ROOT / room, package / room)
        shutil.copy2(ROOT / "__init__.py", package)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
        return subprocess.run([*command, *cache, "-p", NAME], cwd=folder, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
