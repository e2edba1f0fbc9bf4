"""FireRed Measure Drift inside a real ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from support.comfyui import ComfyUI, Run, RunFailed, wait_until
from support.events import listening
from support.warps import warped
from support.workflows import Workflow, saved

Upload = Callable[..., str]

SHIFT, SCALE = (6.5, -3.25), 1.01


@pytest.fixture(scope="session")
def upload(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Upload:
    """The name of an uploaded picture, transparent where a mask is to be."""
    folder = tmp_path_factory.mktemp("drift")

    def put(name: str, picture: np.ndarray, mask: np.ndarray | None = None) -> str:
        file: Path = folder / f"{name}.png"
        pixels = np.rint(picture * 255).astype(np.uint8)
        alpha = [] if mask is None else [np.where(mask, 0, 255).astype(np.uint8)]
        Image.fromarray(np.dstack([pixels, *alpha])).save(file)
        return comfyui.upload(file)

    return put


def _photo() -> np.ndarray:
    return data.astronaut()[:240, 100:420].astype(np.float32) / 255


@pytest.fixture
def workflow(upload: Upload) -> Workflow:
    """A photograph against itself; the report is shown, and the image saved."""
    save = {"images": None, "filename_prefix": "drift"}
    workflow = Workflow({"1": {"class_type": "SaveImage", "inputs": save}})
    before = workflow.add("LoadImage", image=upload("before", _photo()))
    drift = workflow.add("FireRedMeasureDrift", before=[before, 0], after=[before, 0], align=False)
    workflow.add("PreviewAny", source=[drift, 1])
    workflow.set("SaveImage", images=[drift, 0])
    return workflow


def _connect(workflow: Workflow, name: str, file: str, output: int = 0) -> None:
    load = workflow.add("LoadImage", image=file)
    workflow.set("FireRedMeasureDrift", **{name: [load, output]})


def _report(workflow: Workflow, run: Run) -> dict[str, Any]:
    return dict(json.loads(run.texts(workflow.node("PreviewAny"))[0]))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def test_a_picture_against_itself_has_not_moved(comfyui: ComfyUI, workflow: Workflow) -> None:
    with listening(comfyui) as events:
        run = comfyui.run(workflow)
        wait_until(lambda: "ΔE" in events.last_text)
    assert events.last_text == (
        "shift 0.00, 0.00 px · scale 1.0000 · colour +0.0 +0.0 +0.0 of 255 · ΔE 0.0"
    )
    (entry,) = _report(workflow, run)["pictures"]
    assert (entry["shift_x_px"], entry["shift_y_px"], entry["scale"]) == (0, 0, 1)
    assert (_pixels(saved(comfyui, workflow, run)) == np.rint(_photo() * 255)).all()


def test_a_moved_picture_is_measured_and_not_touched(
    comfyui: ComfyUI, workflow: Workflow, upload: Upload
) -> None:
    moved = warped(_photo(), SHIFT, SCALE)
    _connect(workflow, "after", upload("moved", moved))
    run = comfyui.run(workflow)
    (entry,) = _report(workflow, run)["pictures"]
    assert (entry["shift_x_px"], entry["shift_y_px"]) == pytest.approx(SHIFT, abs=0.02)
    assert entry["scale"] == pytest.approx(SCALE, abs=1e-4)
    assert (_pixels(saved(comfyui, workflow, run)) == np.rint(moved * 255)).all()


def test_an_aligned_picture_lies_where_it_was(
    comfyui: ComfyUI, workflow: Workflow, upload: Upload
) -> None:
    _connect(workflow, "after", upload("moved", warped(_photo(), SHIFT, SCALE)))
    workflow.set("FireRedMeasureDrift", align=True)
    run = comfyui.run(workflow)
    assert _report(workflow, run)["aligned"]
    aligned = _pixels(saved(comfyui, workflow, run)).astype(np.float32)
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs(aligned - _photo() * 255)[inner].mean() < 2


def test_the_mask_of_load_image_says_what_was_meant_to_change(
    comfyui: ComfyUI, workflow: Workflow, upload: Upload
) -> None:
    mask = np.zeros(_photo().shape[:2], bool)
    mask[60:180, 80:240] = True
    edited = np.where(mask[..., None], 1 - _photo(), _photo())
    _connect(workflow, "after", upload("edited", edited))
    _connect(workflow, "mask", upload("mask", _photo(), mask), output=1)
    with listening(comfyui) as events:
        report = _report(workflow, comfyui.run(workflow))
        wait_until(lambda: "outside the mask" in events.last_text)
    assert report["outside_mask"]
    (entry,) = report["pictures"]
    assert entry["share_of_picture_compared"] == pytest.approx(0.75, abs=0.01)
    assert (entry["shift_x_px"], entry["red_change_of_255"], entry["delta_e_76"]) == (0, 0, 0)


def test_a_picture_without_transparency_has_an_empty_mask(
    comfyui: ComfyUI, workflow: Workflow
) -> None:
    workflow.set("FireRedMeasureDrift", mask=[workflow.node("LoadImage"), 1])
    report = _report(workflow, comfyui.run(workflow))
    assert not report["outside_mask"]
    assert report["pictures"][0]["share_of_picture_compared"] == 1


def test_a_batch_is_told_picture_by_picture(
    comfyui: ComfyUI, workflow: Workflow, upload: Upload
) -> None:
    before = workflow.node("LoadImage")
    other = workflow.add("LoadImage", image=upload("moved", warped(_photo(), SHIFT, SCALE)))
    batch = workflow.add("ImageBatch", image1=[before, 0], image2=[other, 0])
    workflow.set("FireRedMeasureDrift", after=[batch, 0])
    run = comfyui.run(workflow)
    pictures = _report(workflow, run)["pictures"]
    assert [entry["shift_x_px"] for entry in pictures] == pytest.approx([0, 6.5], abs=0.02)
    assert len(run.images(workflow.node("SaveImage"))) == 2


def test_another_aspect_is_an_error_in_words(
    comfyui: ComfyUI, workflow: Workflow, upload: Upload
) -> None:
    _connect(workflow, "after", upload("cut", _photo()[:200]))
    with pytest.raises(RunFailed, match="after is 320x200 pixels, before 320x240"):
        comfyui.run(workflow)
