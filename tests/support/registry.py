"""What ComfyUI's registry makes of the pack: the archive that artists get."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

COMFY_CLI = "comfy-cli==1.23.0"
"""In an environment of its own: it needs many packages, and the pack needs none of them."""

HANDED_OUT = {
    *("__init__.py", "nodes", "pipeline", "web", "locales", "subgraphs", "example_workflows"),
    *("pyproject.toml", "requirements.txt", "LICENSE"),
    *("README.md", "README.zh.md", "CHANGELOG.md", "ARCHITECTURE.md", "SECURITY.md"),
}
"""The documents are those for whoever uses or runs the pack."""

KINDS = {".py", ".js", ".json", ".md", ".jpg", ".png", ".toml", ".txt", ""}
LARGEST = 200_000
"""Bytes of any one file."""


def install_comfy(folder: Path) -> Path:
    """The program ``comfy``, in an environment made in ``folder``."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    command = [programs / "python", "-m", "pip", "install", "-qq", COMFY_CLI]
    subprocess.run(command, check=True, timeout=280)
    return programs / "comfy"


def check_out(root: Path, folder: Path) -> Path:
    """``folder`` as a repository that holds what ``root`` holds, and nothing that lies about."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=root, capture_output=True, check=True, text=True).stdout
    # What was deleted and not yet committed is still listed.
    for name in filter(lambda name: (root / name).is_file(), names.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def comfy_node(comfy: Path, checkout: Path, *words: str) -> str:
    """What ``comfy node ...`` said; it must go well."""
    # It keeps its choices at home, and would ask there whether it may count its uses.
    home = {"HOME": str(checkout.parent), "XDG_CONFIG_HOME": str(checkout.parent)}
    done = subprocess.run(
        [comfy, "--skip-prompt", "--no-enable-telemetry", "node", *words],
        cwd=checkout,
        env={**os.environ, **home, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def pack_up(comfy: Path, checkout: Path) -> Path:
    """The archive that the registry would hand out."""
    comfy_node(comfy, checkout, "pack")
    return checkout / "node.zip"


def faults_of(archive: Path) -> list[str]:
    """What ``archive`` lacks or holds against the rules above, in words."""
    with zipfile.ZipFile(archive) as opened:
        return list(_faults([entry for entry in opened.infolist() if not entry.is_dir()]))


def _faults(files: list[zipfile.ZipInfo]) -> Iterator[str]:
    held = {Path(file.filename).parts[0] for file in files}
    yield from (f"{name} is missing" for name in sorted(HANDED_OUT - held))
    yield from (f"{name} does not belong there" for name in sorted(held - HANDED_OUT))
    for file in files:
        if Path(file.filename).suffix not in KINDS:
            yield f"{file.filename} is of no kind that is handed out"
        if file.file_size > LARGEST:
            yield f"{file.filename} has {file.file_size} bytes"
