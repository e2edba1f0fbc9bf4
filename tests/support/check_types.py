"""Type-check the pack under a proper package name, whatever its folder is called."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from pack import NAME, ROOT


def main() -> int:
    """mypy over a folder of links named like a package; returns mypy's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / NAME
        package.mkdir()
        for part in ("__init__.py", "nodes", "pipeline"):
            (package / part).symlink_to(ROOT / part)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
        return subprocess.run([*command, *cache, "-p", NAME], cwd=folder, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
