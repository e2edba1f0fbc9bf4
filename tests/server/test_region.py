"""FireRed Crop Region and FireRed Paste Region inside a real ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer
from support.blobs import disc
from support.comfyui import ComfyUI, RunFailed, wait_until
from support.events import listening
from support.kinds import MakePhoto
from support.workflows import Workflow, saved

Picture = Callable[[int, int], str]

SIZE = (240, 180)
SPREADING = {"grow": 4, "feather": 6}
CROP = {**SPREADING, "context": 1.5, "working_megapixels": 0.1}


@pytest.fixture(scope="session")
def clear_disc(comfyui: ComfyUI, photo: MakePhoto, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an uploaded picture that is transparent where its mask is painted."""
    file = tmp_path_factory.mktemp("pictures") / "clear_disc.png"
    alpha = (255 * (1 - disc(*SIZE, 30, (100, 80)).numpy())).astype(np.uint8)
    Image.fromarray(np.dstack([photo(*SIZE), alpha])).save(file)
    return comfyui.upload(file)


def _add_region(workflow: Workflow, image: Any, mask: Any, edited: Any = None) -> str:
    """Crop and paste, with nothing or with ``edited`` between them; the id of the paste."""
    crop = workflow.add("FireRedCropRegion", image=image, mask=mask, **CROP)
    paste = workflow.add(
        "FireRedPasteRegion", edited=edited or [crop, 0], region=[crop, 1], match_colour=True
    )
    workflow.add("MaskToImage", mask=[crop, 2])
    workflow.set("SaveImage", images=[paste, 0])
    return paste


@pytest.fixture
def identity(clear_disc: str) -> Workflow:
    """A picture whose crop is pasted back as it is; picture and effective mask are saved."""
    save = {"images": None, "filename_prefix": "region"}
    workflow = Workflow({"1": {"class_type": "SaveImage", "inputs": save}})
    load = workflow.add("LoadImage", image=clear_disc)
    _add_region(workflow, [load, 0], [load, 1])
    workflow.add("SaveImage", images=[workflow.node("MaskToImage"), 0], filename_prefix="mask")
    return workflow


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _effective(comfyui: ComfyUI, workflow: Workflow, run: Any) -> np.ndarray:
    """The mask output as it was saved, (H, W) uint8."""
    node = [key for key, node in workflow.items() if node["class_type"] == "SaveImage"][-1]
    with Image.open(comfyui.output_file(run.images(node)[0])) as image:
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize("working_megapixels", [0.1, 0.3])
def test_a_crop_that_is_pasted_back_unedited_gives_the_picture(
    comfyui: ComfyUI, identity: Workflow, photo: MakePhoto, working_megapixels: float
) -> None:
    identity.set("FireRedCropRegion", working_megapixels=working_megapixels)
    run = comfyui.run(identity)
    assert np.array_equal(_pixels(saved(comfyui, identity, run)), photo(*SIZE))


def test_the_mask_that_comes_out_is_the_effective_one(comfyui: ComfyUI, identity: Workflow) -> None:
    effective = _effective(comfyui, identity, comfyui.run(identity))
    painted = disc(*SIZE, 30, (100, 80)).numpy() > 0
    reach = disc(*SIZE, 30 + 1.5 * sum(SPREADING.values()), (100, 80)).numpy() > 0
    assert (effective[painted] == 255).all()
    assert not effective[~reach].any()
    assert 0 < effective[80, 100 + 37] < 255


def test_both_nodes_tell_what_they_did(comfyui: ComfyUI, identity: Workflow) -> None:
    identity.set("FireRedCropRegion", context=2.0)
    with listening(comfyui) as events:
        comfyui.run(identity)
        wait_until(lambda: "pasted into 240x180" in events.last_text)
    assert "the colour around the mask is unchanged" in events.last_text
    assert any("of 240x180 · crop" in text for text in events.texts)


def _edit_the_disc(workflow: Workflow, edit: str, image: str) -> None:
    """Put an edit node between crop and paste, and save the effective mask."""
    workflow.set("LoadImage", image=image)
    load = workflow.node("LoadImage")
    _add_region(workflow, [load, 0], [load, 1], edited=[workflow.node(edit), 0])
    workflow.set(edit, **{"images.image_1": [workflow.node("FireRedCropRegion"), 0]})
    workflow.add("SaveImage", images=[workflow.node("MaskToImage"), 0], filename_prefix="mask")


def test_a_local_edit_of_a_region_changes_nothing_outside_its_mask(
    comfyui: ComfyUI, local: Workflow, clear_disc: str, photo: MakePhoto
) -> None:
    _edit_the_disc(local, "FireRedEdit", clear_disc)
    run = comfyui.run(local)
    changed = (_pixels(saved(comfyui, local, run)) != photo(*SIZE)).any(axis=-1)
    effective = _effective(comfyui, local, run)
    assert not changed[effective == 0].any()
    assert changed[effective == 255].mean() > 0.9


def test_an_edit_on_fal_that_gives_back_what_it_got_changes_nothing(
    comfyui: ComfyUI, remote: Workflow, clear_disc: str, photo: MakePhoto, fal: FalServer
) -> None:
    _edit_the_disc(remote, "FireRedEditFal", clear_disc)
    run = comfyui.run(remote)
    assert fal.billed == 1
    assert np.array_equal(_pixels(saved(comfyui, remote, run)), photo(*SIZE))


def _mask_of(workflow: Workflow, **solid: Any) -> list[Any]:
    return [workflow.add("SolidMask", **solid), 0]


def test_a_picture_without_transparency_has_an_empty_mask(
    comfyui: ComfyUI, identity: Workflow, picture: Picture
) -> None:
    identity.set("LoadImage", image=picture(*SIZE))
    with listening(comfyui) as events:
        with pytest.raises(RunFailed, match="The mask is empty. Paint over"):
            comfyui.run(identity)
        wait_until(lambda: "The mask is empty" in events.last_text)


def test_bad_input_is_a_clear_error(comfyui: ComfyUI, identity: Workflow) -> None:
    square = _mask_of(identity, value=1.0, width=100, height=100)
    identity.set("FireRedCropRegion", mask=square)
    with pytest.raises(RunFailed, match="mask is 100x100 pixels, image is 240x180"):
        comfyui.run(identity)


def test_several_pictures_are_refused_with_advice(comfyui: ComfyUI, identity: Workflow) -> None:
    twice = identity.add("RepeatImageBatch", image=[identity.node("LoadImage"), 0], amount=2)
    identity.set("FireRedCropRegion", image=[twice, 0])
    with pytest.raises(RunFailed, match="image holds 2 pictures. Feed them one by one"):
        comfyui.run(identity)


def test_an_edit_of_another_aspect_is_refused_with_advice(
    comfyui: ComfyUI, identity: Workflow
) -> None:
    identity.set("FireRedPasteRegion", edited=[identity.node("LoadImage"), 0])
    with pytest.raises(RunFailed, match="Set the edit's size to match image"):
        comfyui.run(identity)


def test_a_batch_of_edits_gives_a_batch_of_pictures(comfyui: ComfyUI, identity: Workflow) -> None:
    crop = identity.node("FireRedCropRegion")
    batch = identity.add("RepeatImageBatch", image=[crop, 0], amount=3)
    identity.set("FireRedPasteRegion", edited=[batch, 0])
    assert len(comfyui.run(identity).images(identity.node("SaveImage"))) == 3
