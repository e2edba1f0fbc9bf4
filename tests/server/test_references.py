"""FireRed Stitch References inside a real ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.comfyui import ComfyUI, Run, RunFailed, wait_until
from support.events import listening
from support.kinds import MakePhoto
from support.workflows import Workflow, receipt, saved

Picture = Callable[[int, int], str]

SIZES = [(120, 90), (64, 48), (64, 48), (50, 80), (100, 100)]
"""Five pictures on four sockets: the second holds a batch of two."""

PROMPT = "The person of image 1 wears the hat of image 4 and holds @image3"


def _add_stitch(workflow: Workflow, picture: Picture) -> str:
    """The node with its five pictures; its id."""
    first, *batch, fourth, fifth = (
        [workflow.add("LoadImage", image=picture(*size)), 0] for size in SIZES
    )
    both = workflow.add("ImageBatch", image1=batch[0], image2=batch[1])
    sockets = [first, [both, 0], fourth, fifth]
    images = {f"images.image_{number}": link for number, link in enumerate(sockets, 1)}
    return workflow.add("FireRedStitchReferences", prompt=PROMPT, background=True, **images)


@pytest.fixture
def stitching(picture: Picture) -> Workflow:
    """The node with its five pictures; the composites are saved, the prompt is shown."""
    workflow = Workflow({"0": {"class_type": "SolidMask", "inputs": _solid(0.0, 9, 9)}})
    stitch = _add_stitch(workflow, picture)
    for index in range(3):
        workflow.add("SaveImage", images=[stitch, index], filename_prefix=f"composite_{index}")
    workflow.add("PreviewAny", source=[stitch, 3])
    return workflow


def _solid(value: float, width: int, height: int) -> dict[str, Any]:
    return {"value": value, "width": width, "height": height}


def _composites(comfyui: ComfyUI, workflow: Workflow, run: Run) -> list[Image.Image]:
    nodes = [key for key, node in workflow.items() if node["class_type"] == "SaveImage"]
    files = [comfyui.output_file(run.images(node)[0]) for node in nodes]
    return [Image.open(file).copy() for file in files]


def test_five_pictures_become_three_and_the_prompt_follows(
    comfyui: ComfyUI, stitching: Workflow, photo: MakePhoto
) -> None:
    with listening(comfyui) as events:
        run = comfyui.run(stitching)
        wait_until(lambda: "composite 3" in events.last_text)
    first, second, third = _composites(comfyui, stitching, run)
    assert np.array_equal(np.asarray(first), photo(120, 90))
    for composite in (second, third):
        assert composite.width * composite.height == pytest.approx(1024 * 1024, rel=0.09)
    (prompt,) = run.texts(stitching.node("PreviewAny"))
    assert prompt == (
        "The person of image 1 wears the hat of image 3 (left part) and holds @image2 (bottom part)"
    )
    lines = events.last_text.split("  \n")
    assert lines[0] == "composite 1 120x90: image 1 alone"
    assert lines[1].startswith(f"composite 2 {second.width}x{second.height}: image 2 top part")


def test_the_edit_node_takes_what_comes_out(
    comfyui: ComfyUI, local: Workflow, picture: Picture
) -> None:
    stitch = _add_stitch(local, picture)
    composites = {f"images.image_{number}": [stitch, number - 1] for number in (1, 2, 3)}
    local.set("FireRedEdit", prompt=[stitch, 3], **composites)
    run = comfyui.run(local)
    assert saved(comfyui, local, run).size == (120, 90)
    shown = receipt(local, run)
    assert shown["references"][0] == "120x90"
    assert len(shown["references"]) == 3
    assert "image 3 (left part)" in shown["prompt"]


def test_a_mask_cuts_its_picture_out_and_an_empty_one_does_not(
    comfyui: ComfyUI, stitching: Workflow, picture: Picture
) -> None:
    none = stitching.add("SolidMask", **_solid(0.0, 50, 80))
    some = stitching.add("SolidMask", **_solid(1.0, 20, 10))
    mask = stitching.add(
        "MaskComposite", destination=[none, 0], source=[some, 0], x=10, y=30, operation="add"
    )
    loaded = stitching.add("LoadImage", image=picture(64, 48))
    stitching.set(
        "FireRedStitchReferences", **{"masks.mask_2": [loaded, 1], "masks.mask_4": [mask, 0]}
    )
    whole = comfyui.run(_without_masks(stitching))
    with listening(comfyui) as events:
        run = comfyui.run(stitching)
        wait_until(lambda: "mask_2 is empty: image 2 is used whole" in events.last_text)
    before, after = (_composites(comfyui, stitching, each) for each in (whole, run))
    assert before[2].size != after[2].size


def _without_masks(workflow: Workflow) -> Workflow:
    copied = Workflow(
        {key: {**node, "inputs": {**node["inputs"]}} for key, node in workflow.items()}
    )
    copied.set("FireRedStitchReferences", **{"masks.mask_2": None, "masks.mask_4": None})
    return copied


EMPTY = ["0", 0]

BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"images.image_4": None}, "Required input is missing"),
    ({"images.image_13": ["2", 0]}, "no input images.image_13"),
    ({"masks.mask_6": EMPTY}, "mask_6 has no picture: 5 are connected"),
    ({"prompt": "wear the hat of @image6"}, "names @image6"),
]


@pytest.mark.parametrize(("inputs", "words"), BAD_INPUT)
def test_bad_input_is_a_clear_error(
    comfyui: ComfyUI, stitching: Workflow, inputs: dict[str, Any], words: str
) -> None:
    stitching.set("FireRedStitchReferences", **inputs)
    with pytest.raises(RunFailed) as caught:
        comfyui.run(stitching)
    assert words in caught.value.message


def test_more_than_twelve_pictures_are_refused(comfyui: ComfyUI, stitching: Workflow) -> None:
    first = stitching.node("LoadImage")
    batch = stitching.add("RepeatImageBatch", image=[first, 0], amount=9)
    stitching.set("FireRedStitchReferences", **{"images.image_1": [batch, 0]})
    with pytest.raises(RunFailed, match="13 pictures are connected. Connect at most 12"):
        comfyui.run(stitching)
