"""The pack as ComfyUI sees it: its nodes, its cost at start, and a machine without diffusers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from doubles.fal_server import FalServer
from support.comfyui import (
    ComfyUI,
    RunFailed,
    comfyui_source,
    install_pack,
    running_comfyui,
)
from support.pack import ROOT
from support.server_fixtures import MODEL_FOLDER
from support.workflows import Workflow

SNAPSHOT = ROOT / "tests" / "server" / "object_info.json"
"""Ids, types, ranges and order of every input and output: frozen, since workflows are shared."""

EDIT_NODES = ("FireRedEdit", "FireRedEditFal")

NODES = [
    *("FireRedCropRegion", *EDIT_NODES, "FireRedLoadLora", "FireRedLoadModel"),
    *("FireRedMeasureDrift", "FireRedPasteRegion", "FireRedStitchReferences"),
]


def _contract(info: dict[str, Any]) -> dict[str, Any]:
    """What of a node's description saved workflows depend on: no words, no file lists."""
    kept = {key: info[key] for key in ("category", "input", "input_order", "output", "output_name")}
    return dict(_contract_of(kept, info["name"]))


def _contract_of(value: Any, node: str) -> Any:
    if isinstance(value, dict):
        files = node in ("FireRedLoadLora", "FireRedLoadModel") and value.get("options")
        if isinstance(files, list) and not any(isinstance(item, dict) for item in files):
            value = {**value, "options": "files on this machine"}
        return {key: _contract_of(item, node) for key, item in value.items() if key != "tooltip"}
    if isinstance(value, list):
        return [_contract_of(item, node) for item in value]
    return value


def test_ids_types_ranges_and_order_are_those_of_the_snapshot(comfyui: ComfyUI) -> None:
    info = comfyui.get("/object_info")
    ours = {name: _contract(info[name]) for name in sorted(info) if name.startswith("FireRed")}
    assert ours == json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert list(ours) == NODES


def test_no_node_asks_for_a_comfy_account(comfyui: ComfyUI) -> None:
    info = comfyui.get("/object_info")
    ours = [node for name, node in info.items() if name.startswith("FireRed")]
    assert not any(node["api_node"] for node in ours)
    assert not any("hidden" in node["input"] for node in ours)


def _tooltips(inputs: dict[str, Any]) -> list[tuple[str, bool]]:
    """Every input by name, with whether it explains itself; choices of a choice included."""
    found = []
    for group in inputs.values():
        for name, (_, options) in group.items():
            found.append((name, bool(options.get("tooltip"))))
            for choice in options.get("options", []):
                if isinstance(choice, dict):
                    found += _tooltips(choice["inputs"])
    return found


def test_every_input_and_output_explains_itself(comfyui: ComfyUI) -> None:
    info = comfyui.get("/object_info")
    for node in (info[name] for name in info if name.startswith("FireRed")):
        silent = [name for name, explained in _tooltips(node["input"]) if not explained]
        assert not silent
        assert all(node["output_tooltips"])


def test_both_edit_nodes_share_inputs_outputs_and_order(comfyui: ComfyUI) -> None:
    local, fal = (comfyui.get(f"/object_info/{name}")[name] for name in EDIT_NODES)
    shared = local["input_order"]["required"][1:-1]
    assert fal["input_order"]["required"][: len(shared)] == shared
    assert local["output_name"] == fal["output_name"] == ["images", "seed", "receipt"]


IMPORT_PROBE = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[2])
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import nodes
for name in ("diffusers", "transformers", "accelerate", "torchvision", "cache_dit", "gguf"):
    sys.modules[name] = None
asyncio.run(nodes.load_custom_node(PACK))
loaded = [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("FireRed")]
print("PROBE" + json.dumps(loaded))
"""
"""Loads the pack where importing a heavy package, even one ComfyUI has imported, is an error."""


def test_importing_the_pack_imports_neither_diffusers_nor_transformers(tmp_path: Path) -> None:
    script = IMPORT_PROBE.replace("PACK", repr(str(install_pack(tmp_path))))
    source = comfyui_source()
    process = subprocess.run(
        [sys.executable, "-c", script, "-", str(source)],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in process.stdout.splitlines() if line.startswith("PROBE"))
    loaded = json.loads(line.removeprefix("PROBE"))
    assert sorted(loaded) == NODES


@pytest.fixture(scope="module")
def python_without_diffusers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with everything this one has installed, except diffusers."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    own, others = (
        Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
        for prefix in (folder, sys.prefix)
    )
    for installed in others.iterdir():
        if not installed.name.startswith("diffusers"):
            (own / installed.name).symlink_to(installed)
    return str(Path(sysconfig.get_path("scripts", vars={"base": str(folder)})) / "python")


def test_without_diffusers_and_key_each_node_says_what_it_lacks_and_needs_no_more(
    python_without_diffusers: str,
    comfyui: ComfyUI,
    fal: FalServer,
    local: Workflow,
    remote: Workflow,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("bare")
    install_pack(folder)
    for shared in ("input", "models"):
        (folder / shared).symlink_to(comfyui.base / shared, target_is_directory=True)
    environ = {"FAL_QUEUE_RUN_HOST": fal.url, "FAL_KEY": ""}
    with running_comfyui(folder, environ=environ, python=python_without_diffusers) as bare:
        with pytest.raises(RunFailed, match=r"pip install 'diffusers"):
            bare.run(local)
        with pytest.raises(RunFailed, match=r"fal\.ai/dashboard/keys"):
            bare.run(remote)
        assert not fal.requests
        # The key file is read anew for each run: no restart.
        private = folder / "user" / "__firered"
        private.mkdir(mode=0o700)
        (private / "fal_key").write_text(fal.key)
        assert bare.run(remote).images(remote.node("SaveImage"))


def test_a_damaged_model_folder_is_named_before_anything_is_loaded(
    comfyui: ComfyUI, local: Workflow
) -> None:
    whole = comfyui.base / "models" / "diffusers" / MODEL_FOLDER
    broken = Path(shutil.copytree(whole, whole.with_name("broken")))
    (broken / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    local.set("FireRedLoadModel", **{"source.folder": "broken"})
    with pytest.raises(RunFailed, match=r"vae/diffusion_pytorch_model\.safetensors is truncated"):
        comfyui.run(local)
