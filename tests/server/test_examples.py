"""The shipped workflows in a real ComfyUI, small and quick, with either engine."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer
from support.blobs import disc
from support.comfyui import PACK_FOLDER, ComfyUI, Run
from support.examples import BATCH_FOLDER, EXAMPLES
from support.graphs import THUMBNAIL_BYTES
from support.kinds import MakePhoto
from support.model_files import write_model_files
from support.pack import ROOT
from support.server_fixtures import MODEL_FOLDER
from support.workflows import API_FOLDER, Workflow, all_released, released, shipped

Size = tuple[int, int]

SIZES: dict[str, list[Size]] = {
    "firered_edit_local": [(120, 90)],
    "firered_edit_fal": [(120, 90)],
    "firered_try_on": [(120, 90)],
    "firered_makeup": [(120, 90)],
    "firered_region": [(240, 180)],
    "firered_fusion": [(120, 90)],
    "firered_batch": [(384, 288)] * 20,
    "firered_local_and_fal": [(120, 90)] * 2,
}
"""What each example saves of the small pictures below."""

PICTURES: list[Size] = [(120, 90), (50, 80), (64, 64), (90, 70), (80, 80), (60, 96), (100, 50)]

FAL_ONLY: dict[str, Any] = {
    "enable_safety_checker": True,
    "output_format": "png",
    "sync_mode": False,
    "upload_quality": "lossless",
    "max_cost": 1.0,
}
LOCAL_ONLY: dict[str, Any] = {"noise": "cpu"}

SHORT_FOLDER, SHORT_COUNT = "firered_short_batch", 3
"""Fewer pictures for the CPU."""


class MakeSmall(Protocol):
    def __call__(self, name: str, version: str | None = None) -> Workflow: ...


of_every_example = pytest.mark.parametrize("name", SIZES)


@pytest.fixture(scope="module")
def painted(comfyui: ComfyUI, photo: MakePhoto, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an uploaded picture with a painted mask, as ComfyUI's mask editor saves it."""
    file = tmp_path_factory.mktemp("pictures") / "painted.png"
    alpha = 255 * (1 - disc(240, 180, 30, (100, 80)).numpy())
    Image.fromarray(np.dstack([photo(240, 180), alpha.astype(np.uint8)])).save(file)
    return comfyui.upload(file)


@pytest.fixture(scope="module")
def furnished(base: Path, photo: MakePhoto) -> None:
    """The files of the models, and pictures in the folder of the batch."""
    write_model_files(base)
    for name, count in ((BATCH_FOLDER, 20), (SHORT_FOLDER, SHORT_COUNT)):
        folder = base / "input" / name
        folder.mkdir(exist_ok=True)
        for number in range(count):
            shifted = np.roll(photo(120, 90), 5 * number, axis=1)
            Image.fromarray(shifted).save(folder / f"{number:02}.png")


@pytest.fixture
def small(
    furnished: None,
    fal: FalServer,
    painted: str,
    picture: Callable[[int, int], str],
    request: pytest.FixtureRequest,
) -> MakeSmall:
    """A workflow by name, as it is now or was in a version: on small pictures, in few steps.

    Its seed is its own, for what was paid in one test would be there in the next.
    """
    seed = zlib.crc32(request.node.name.encode())
    quick = {"num_inference_steps": 2, "working_megapixels": 0.02, "seed": seed}

    def make(name: str, version: str | None = None) -> Workflow:
        workflow = released(version, name) if version else shipped(name)
        loaders = workflow.inputs_of("LoadImage")
        for inputs, size in zip(loaders, PICTURES, strict=False):
            inputs["image"] = painted if name == "firered_region" else picture(*size)
        for kind in ("FireRedEdit", "FireRedEditFal"):
            for inputs in workflow.inputs_of(kind):
                inputs.update(quick)
                if "size.megapixels" in inputs:
                    inputs["size.megapixels"] = 0.1
        for inputs in workflow.inputs_of("FireRedCropRegion"):
            inputs["working_megapixels"] = 0.1
        return workflow

    return make


def _saved_sizes(comfyui: ComfyUI, workflow: Workflow, run: Run) -> list[Size]:
    """Width and height of every picture that every Save Image node wrote."""
    sizes = []
    for key in workflow.ids("SaveImage"):
        for image in run.images(key):
            with Image.open(comfyui.output_file(image)) as opened:
                sizes.append(opened.size)
    return sizes


def _swap(workflow: Workflow) -> None:
    """Give every edit to the other engine, and nothing else changes."""
    local, fal = workflow.ids("FireRedEdit"), workflow.ids("FireRedEditFal")
    source = {"source": "folder", "source.folder": MODEL_FOLDER, "precision": "auto"}
    for key in fal:
        model = workflow.add("FireRedLoadModel", **source)
        _exchange(workflow[key], "FireRedEdit", FAL_ONLY, {**LOCAL_ONLY, "model": [model, 0]})
    for key in local:
        _exchange(workflow[key], "FireRedEditFal", {**LOCAL_ONLY, "model": None}, FAL_ONLY)


def _exchange(
    node: dict[str, Any], class_type: str, without: dict[str, Any], own: dict[str, Any]
) -> None:
    node["class_type"] = class_type
    kept = {name: value for name, value in node["inputs"].items() if name not in without}
    node["inputs"] = {**kept, **own}


def test_every_shipped_workflow_is_tested_and_offered_with_its_picture(comfyui: ComfyUI) -> None:
    folder = ROOT / "example_workflows"
    names = sorted(example.name for example in EXAMPLES)
    assert sorted(SIZES) == names
    assert sorted(comfyui.get("/api/workflow_templates")[PACK_FOLDER]) == names
    for suffix, place in ((".json", folder), (".jpg", folder), (".json", API_FOLDER)):
        assert sorted(file.stem for file in place.glob(f"*{suffix}")) == names


@of_every_example
def test_an_example_saves_pictures_of_the_size_asked_for(
    comfyui: ComfyUI, small: MakeSmall, name: str
) -> None:
    workflow = small(name)
    assert _saved_sizes(comfyui, workflow, comfyui.run(workflow)) == SIZES[name]


@pytest.mark.parametrize(("version", "name"), all_released())
def test_a_workflow_of_any_version_still_runs(
    comfyui: ComfyUI, small: MakeSmall, version: str, name: str
) -> None:
    workflow = small(name, version)
    assert _saved_sizes(comfyui, workflow, comfyui.run(workflow)) == SIZES[name]


@of_every_example
def test_the_other_engine_gives_the_same_count_and_sizes(
    comfyui: ComfyUI, small: MakeSmall, name: str
) -> None:
    workflow = small(name)
    for inputs in workflow.inputs_of("LoadImageDataSetFromFolder"):
        inputs["folder"] = SHORT_FOLDER
    expected = SIZES[name][:SHORT_COUNT]
    _swap(workflow)
    assert _saved_sizes(comfyui, workflow, comfyui.run(workflow)) == expected


def test_the_batch_sends_one_job_for_each_picture(
    comfyui: ComfyUI, small: MakeSmall, fal: FalServer
) -> None:
    comfyui.run(small("firered_batch"))
    assert len(fal.jobs) == 20


def test_the_region_edit_sends_the_crop_and_leaves_the_rest(
    comfyui: ComfyUI, small: MakeSmall, photo: MakePhoto
) -> None:
    workflow = small("firered_region")
    run = comfyui.run(workflow)
    file = comfyui.output_file(run.images(workflow.node("SaveImage"))[0])
    with Image.open(file) as opened:
        changed = (np.asarray(opened.convert("RGB")) != photo(240, 180)).any(axis=-1)
    rows, columns = np.nonzero(changed)
    # The disc of radius 30 around (100, 80), grown and feathered by 16 each.
    assert (columns.min(), columns.max()) >= (100 - 63, 100)
    assert columns.max() <= 100 + 63
    assert rows.min() >= 80 - 63
    assert rows.max() <= 80 + 63


@of_every_example
def test_an_example_is_sound_and_holds_nothing_of_its_makers_machine(name: str) -> None:
    text = (ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")
    _assert_sound(json.loads(text))
    _assert_nothing_private(text)


@pytest.mark.parametrize("file", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda f: f.stem)
def test_a_blueprint_is_one_node_with_a_sound_graph_inside(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    workflow = json.loads(text)
    (node,), (inside,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert node["type"] == inside["id"]
    assert node["title"] == inside["name"] == file.stem
    assert inside["description"]
    links = {link["id"] for link in inside["links"]}
    assert len(links) == len(inside["links"])
    used = [key for slot in (*inside["inputs"], *inside["outputs"]) for key in slot["linkIds"]]
    assert set(used) <= links
    assert all(slot["linkIds"] for slot in (*inside["inputs"], *inside["outputs"]))
    _assert_nothing_private(text)


@of_every_example
def test_a_thumbnail_is_small_enough_to_ship(name: str) -> None:
    file = ROOT / "example_workflows" / f"{name}.jpg"
    assert file.stat().st_size <= THUMBNAIL_BYTES
    with Image.open(file) as opened:
        assert opened.format == "JPEG"
        assert min(opened.size) >= 400


@of_every_example
def test_every_file_that_a_node_names_can_be_downloaded_and_the_seed_stays(name: str) -> None:
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        values = node.get("widgets_values") or []
        named = [value for value in values if str(value).endswith(".safetensors")]
        models = node["properties"].get("models", [])
        assert sorted(model["name"] for model in models) == sorted(named)
        for model in models:
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith("/" + model["name"])
        if node["type"] in ("FireRedEdit", "FireRedEditFal"):
            assert "fixed" in values


def _assert_sound(workflow: dict[str, Any]) -> None:
    """Version, ids that occur once, and links that both of their ends know."""
    assert workflow["version"] == 0.4
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert len(nodes) == len(workflow["nodes"])
    assert len(links) == len(workflow["links"])
    assert max(nodes) == workflow["last_node_id"]
    assert max(links) == workflow["last_link_id"]
    for key, source, output, target, slot, kind in links.values():
        assert key in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == key
        assert kind == nodes[source]["outputs"][output]["type"]
    ends = [slot["link"] for node in nodes.values() for slot in node.get("inputs", [])]
    assert sorted(end for end in ends if end is not None) == sorted(links)


def _assert_nothing_private(text: str) -> None:
    assert not re.search(r"[A-Za-z]:\\\\|/(?:home|root|Users|tmp|work)/", text)
    assert not re.search(r"[0-9a-f-]{36}:[0-9a-f]{16,}|Key [0-9a-f]", text)
    assert not re.search(r"127\.0\.0\.1|localhost", text)
