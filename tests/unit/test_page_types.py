"""The page's JavaScript against ComfyUI's own published types, where npm has them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support import npm
from support.pack import ROOT

TYPES = "@comfyorg/comfyui-frontend-types@1.45.6"
"""The nearest to the frontend of ComfyUI 0.30 of which everything is published."""

COMPILER = "typescript@5.9.3"
PAGE = ROOT / "tests" / "page"


def test_the_page_is_typed(tmp_path: Path) -> None:
    node = npm.program("node")
    npm.install(tmp_path, TYPES, COMPILER)
    # As ComfyUI serves them: the pack's files look for ComfyUI's from where they are served.
    shutil.copytree(ROOT / "web", tmp_path / "extensions" / "pack")
    (tmp_path / "scripts").mkdir()
    shutil.copy(PAGE / "scripts.d.ts", tmp_path / "scripts" / "app.d.ts")
    shutil.copy(PAGE / "tsconfig.json", tmp_path)
    compiler = tmp_path / "node_modules" / "typescript" / "bin" / "tsc"
    checked = subprocess.run(
        [node, compiler, "--project", tmp_path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
