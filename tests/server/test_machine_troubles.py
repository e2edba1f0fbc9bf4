"""A real ComfyUI on machines that are not as one would wish: names, disks, clocks, company."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer
from doubles.tiny_files import linear_layers, write_lora
from support.comfyui import ComfyUI, Run, RunFailed, running_comfyui
from support.graph_trials import furnish_strangely
from support.kinds import MakePhoto
from support.orphans import data_folder
from support.server_fixtures import FAL_KEY, MODEL_FOLDER, furnish
from support.workflows import Workflow, saved, shipped

AWKWARD = "Ünï cödé & 火红 (1) 'quoted' 100% #1"
"""A name as people give folders and files; no part of it means anything."""

LONG = "long " * 40
NAMES = (f"{AWKWARD}.png", f"{LONG}.png", "é́\u0323.png", ".dotted.png", "a;b,c=d.png")

PRIVATE = ("--cpu", "--database-url", "sqlite:///:memory:")
"""ComfyUI's own database is for one process."""

DAY = 86_400.0


@pytest.fixture(scope="module")
def fal() -> Iterator[FalServer]:
    with FalServer(key=FAL_KEY, runner=_noise) as server:
        yield server


def _noise(arguments: dict[str, Any], _: list[Image.Image]) -> list[Image.Image]:
    """What no format makes smaller, decided by the seed."""
    size = arguments["image_size"]
    rng = np.random.default_rng(arguments["seed"])
    shape = (size["height"], size["width"], 3)
    return [
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        for _ in range(arguments["num_images"])
    ]


@pytest.fixture(scope="module")
def awkward(fal: FalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI whose every folder and file has a name that breaks careless programs."""
    base = furnish_strangely(tmp_path_factory.mktemp("machine") / AWKWARD / LONG.strip())
    models = base / "models"
    (models / "diffusers" / MODEL_FOLDER).rename(models / "diffusers" / AWKWARD)
    layers = linear_layers(models / "diffusers" / AWKWARD)
    write_lora(models / "loras" / LONG / f"{AWKWARD}.safetensors", layers, "diffusers")
    with running_comfyui(base, environ=fal.environment, options=PRIVATE) as server:
        yield server


@pytest.fixture(scope="module")
def plain(
    awkward: ComfyUI, fal: FalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """A second ComfyUI on the user directory of ``awkward``, with plain names of its own."""
    base = furnish(tmp_path_factory.mktemp("plain"))
    options = (*PRIVATE, "--user-directory", str(awkward.base / "user"))
    with running_comfyui(base, environ=fal.environment, options=options) as server:
        yield server


def _local(folder: str, picture: str) -> Workflow:
    workflow = shipped("firered_edit_local")
    workflow.set("LoadImage", image=picture)
    workflow.use_folder(folder)
    workflow.set("FireRedEdit", num_inference_steps=2, working_megapixels=0.02)
    return workflow


def _remote(prompt: str, **inputs: Any) -> Workflow:
    workflow = shipped("firered_edit_fal")
    workflow.set("FireRedEditFal", prompt=prompt, **{**_SMALL, **inputs})
    return workflow


_SMALL = {"size": "custom", "size.width": 64, "size.height": 64, "size.index": None}


def _pixels(comfyui: ComfyUI, workflow: Workflow, run: Run) -> Any:
    return np.asarray(saved(comfyui, workflow, run))


def _paid(fal: FalServer, prompt: str) -> list[float]:
    return [job.units for job in fal.jobs if job.arguments["prompt"] == prompt]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders_models_and_pictures_are_only_names(
    awkward: ComfyUI, plain: ComfyUI, photo: MakePhoto, name: str
) -> None:
    for base in (awkward.base, plain.base):
        for file in ("plain.png", name):
            Image.fromarray(photo(64, 48)).save(base / "input" / file)
    there, here = _local(AWKWARD, name), _local(MODEL_FOLDER, "plain.png")
    found = _pixels(awkward, there, awkward.run(there))
    assert np.array_equal(found, _pixels(plain, here, plain.run(here)))


def test_a_lora_is_found_below_any_folder(awkward: ComfyUI) -> None:
    workflow = _local(AWKWARD, "example.png")
    lora = f"{LONG}/{AWKWARD}.safetensors"
    inputs = {"lora": lora, "strength": 1.0, "use_its_schedule": True}
    model = [workflow.node("FireRedLoadModel"), 0]
    added = workflow.add("FireRedLoadLora", model=model, **inputs)
    unchanged = _pixels(awkward, workflow, awkward.run(workflow))
    workflow.set("FireRedEdit", model=[added, 0])
    changed = _pixels(awkward, workflow, awkward.run(workflow))
    assert not np.array_equal(unchanged, changed)


def test_the_same_edit_in_two_servers_on_one_user_directory_is_paid_once(
    awkward: ComfyUI, plain: ComfyUI, fal: FalServer
) -> None:
    workflow = _remote("two servers at once")
    fal.run_seconds = 1.0
    try:
        started = [(server, server.start(workflow)) for server in (awkward, plain)]
        found = [_pixels(server, workflow, server.finish(run)) for server, run in started]
    finally:
        fal.run_seconds = 0.0
    assert np.array_equal(*found)
    assert _paid(fal, "two servers at once") == [pytest.approx(1, abs=1)]


def test_two_servers_go_through_many_edits_side_by_side(
    awkward: ComfyUI, plain: ComfyUI, fal: FalServer
) -> None:
    edits = [_remote(f"side by side {number}", seed=number) for number in range(12)]
    started = [(server, edit, server.start(edit)) for edit in edits for server in (awkward, plain)]
    found = [_pixels(server, edit, server.finish(run)) for server, edit, run in started]
    assert all(np.array_equal(*found[at : at + 2]) for at in range(0, len(found), 2))
    assert [len(_paid(fal, f"side by side {number}")) for number in range(12)] == [1] * 12
    with closing(sqlite3.connect(data_folder(awkward.base) / "journal.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("seconds", [400 * DAY, -400 * DAY, 3e9])
def test_a_clock_that_jumps_loses_nothing_that_is_paid(
    awkward: ComfyUI, fal: FalServer, seconds: float
) -> None:
    before, after = (_remote(f"{when} {seconds:g}") for when in ("before", "after"))
    first = _pixels(awkward, before, awkward.run(before))
    try:
        _set_clock(awkward, seconds)
        second = _pixels(awkward, after, awkward.run(after))
        awkward.forget()
        before.set("SaveImage", filename_prefix="in_another_year")
        assert np.array_equal(_pixels(awkward, before, awkward.run(before)), first)
    finally:
        _set_clock(awkward, 0)
    awkward.forget()
    after.set("SaveImage", filename_prefix="and_back")
    assert np.array_equal(_pixels(awkward, after, awkward.run(after)), second)
    assert [len(_paid(fal, f"{when} {seconds:g}")) for when in ("before", "after")] == [1, 1]


def _set_clock(comfyui: ComfyUI, seconds: float) -> None:
    comfyui.post("/test/clock", {"seconds": seconds}).raise_for_status()


def test_a_disk_that_takes_no_more_costs_nothing_twice_and_is_named(
    awkward: ComfyUI, fal: FalServer, tmp_path: Path
) -> None:
    """No file of that server may be larger than ten megabytes; the picture is."""
    workflow = _remote("a full disk", **{"size.width": 2100, "size.height": 2100})
    base = furnish(tmp_path / "full")
    options = (*PRIVATE, "--user-directory", str(awkward.base / "user"))
    small_files = _wrapped(tmp_path, "ulimit -f 12000")
    with running_comfyui(
        base, environ=fal.environment, options=options, python=small_files
    ) as full:
        with pytest.raises(RunFailed, match="disk|room|written|File too large") as caught:
            full.run(workflow)
        assert "Traceback" not in caught.value.message
        with pytest.raises(RunFailed):
            full.run(workflow)
        assert full.run(_remote("a small one")).prompt_id
    found = _pixels(awkward, workflow, awkward.run(workflow))
    assert found.shape == (2100, 2100, 3)
    assert len(_paid(fal, "a full disk")) == 1


def _wrapped(folder: Path, before: str) -> str:
    """A Python that is started after a shell command, which limits what it may do."""
    file = folder / "python"
    file.write_text(f'#!/bin/sh\n{before}\nexec "{sys.executable}" "$@"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_without_a_place_for_the_journal_nothing_is_sent_and_local_edits_go_on(
    fal: FalServer, tmp_path: Path
) -> None:
    """Nobody, an administrator included, can make a folder there."""
    base = furnish(tmp_path / "read-only")
    shutil.copy2(base / "input" / "example.png", base / "input" / "picture.png")
    environ = {**fal.environment, "FIRERED_DATA_DIR": "/proc/firered"}
    with running_comfyui(base, environ=environ, options=PRIVATE) as server:
        with pytest.raises(RunFailed, match="journal|written|folder"):
            server.run(_remote("nowhere to write"))
        workflow = _local(MODEL_FOLDER, "picture.png")
        assert _pixels(server, workflow, server.run(workflow)).any()
        assert "/proc/firered" not in _notices(server)
    assert _paid(fal, "nowhere to write") == []


def _notices(comfyui: ComfyUI) -> str:
    """All that was told of runs."""
    return str(comfyui.get("/history"))
