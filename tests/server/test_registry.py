"""The pack as ComfyUI's registry takes it and hands it out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.comfyui import PACK_FOLDER, ComfyUI, free_port, running_comfyui
from support.pack import ROOT

COMFY_CLI = "comfy-cli==1.23.0"
"""In an environment of its own: it needs many packages, and the pack needs none of them."""

HANDED_OUT = {
    *("__init__.py", "nodes", "pipeline", "web", "locales", "subgraphs", "example_workflows"),
    *("pyproject.toml", "requirements.txt", "LICENSE"),
    *("README.md", "README.zh.md", "CHANGELOG.md", "ARCHITECTURE.md"),
}
"""The documents are those that the README links to."""

KINDS = {".py", ".js", ".json", ".md", ".jpg", ".png", ".toml", ".txt", ""}
LARGEST = 200_000
"""Bytes of any one file."""


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program ``comfy``."""
    folder = tmp_path_factory.mktemp("comfy_cli")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    command = [programs / "python", "-m", "pip", "install", "--quiet", COMFY_CLI]
    subprocess.run(command, check=True, timeout=280)
    return programs / "comfy"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds what this one holds, and nothing that lies about here."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    # What was deleted and not yet committed is still listed.
    for name in filter(lambda name: (ROOT / name).is_file(), names.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def _run(comfy: Path, checkout: Path, *words: str) -> str:
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


@pytest.fixture(scope="module")
def archive(comfy: Path, checkout: Path) -> Path:
    _run(comfy, checkout, "pack")
    return checkout / "node.zip"


def test_the_registry_finds_nothing_wrong(comfy: Path, checkout: Path) -> None:
    said = _run(comfy, checkout, "validate")
    assert "All validation checks passed" in said
    assert "warning" not in said.lower()


def test_the_archive_holds_what_a_user_needs_and_nothing_else(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        files = [entry for entry in opened.infolist() if not entry.is_dir()]
    assert {Path(entry.filename).parts[0] for entry in files} == HANDED_OUT
    assert {Path(entry.filename).suffix for entry in files} <= KINDS
    assert [entry.filename for entry in files if entry.file_size > LARGEST] == []


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI with nothing in it but the archive."""
    base = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(base / "custom_nodes" / PACK_FOLDER)
    # Nobody listens there: the boot must not need fal.
    nowhere = f"http://127.0.0.1:{free_port()}"
    with running_comfyui(base, environ={"FAL_QUEUE_RUN_HOST": nowhere}) as server:
        yield server


def test_the_archive_unpacked_is_the_pack(installed: ComfyUI) -> None:
    snapshot = json.loads((ROOT / "tests" / "server" / "object_info.json").read_text("utf-8"))
    nodes = {name for name in installed.get("/object_info") if name.startswith("FireRed")}
    assert nodes == set(snapshot)
    served = installed.get("/extensions")
    assert f"/extensions/{PACK_FOLDER}/firered.js" in served
    shipped = {file.stem for file in (ROOT / "example_workflows").glob("*.json")}
    assert set(installed.get("/api/workflow_templates")[PACK_FOLDER]) == shipped
    blueprints = [entry["name"] for entry in installed.get("/global_subgraphs").values()]
    for file in (ROOT / "subgraphs").glob("*.json"):
        assert file.stem in blueprints
    assert "Traceback" not in installed.log.read_text(errors="replace")
