"""The pack as ComfyUI's registry takes it and hands it out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.comfyui import PACK_FOLDER, ComfyUI, free_port, running_comfyui
from support.pack import ROOT
from support.registry import check_out, comfy_node, faults_of, install_comfy, pack_up


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program ``comfy``."""
    return install_comfy(tmp_path_factory.mktemp("comfy_cli"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return check_out(ROOT, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def archive(comfy: Path, checkout: Path) -> Path:
    return pack_up(comfy, checkout)


def test_the_registry_finds_nothing_wrong(comfy: Path, checkout: Path) -> None:
    said = comfy_node(comfy, checkout, "validate")
    assert "All validation checks passed" in said
    assert "warning" not in said.lower()


def test_the_archive_holds_what_a_user_needs_and_nothing_else(archive: Path) -> None:
    assert faults_of(archive) == []


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
