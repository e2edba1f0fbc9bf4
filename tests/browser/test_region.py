"""A region edit built by hand in ComfyUI's own editor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer
from support.browser import Editor, in_both_renderers
from support.photos import photograph

pytestmark = pytest.mark.usefixtures("browser")

WIDTH, HEIGHT = 1500, 1000
PAINTED = (slice(300, 420), slice(700, 900))

GRAPH = [
    ("Load Image", "LoadImage", 60, 120),
    ("FireRed Crop Region", "FireRedCropRegion", 420, 120),
    ("FireRed Edit (fal)", "FireRedEditFal", 780, 120),
    ("FireRed Paste Region", "FireRedPasteRegion", 1160, 120),
    ("FireRed Measure Drift", "FireRedMeasureDrift", 1160, 320),
    ("Save Image", "SaveImage", 1160, 560),
]
"""Title in the node search, class, and where it is placed."""

LINKS = [
    ("LoadImage", 0, "FireRedCropRegion", "image"),
    ("LoadImage", 1, "FireRedCropRegion", "mask"),
    ("FireRedCropRegion", 0, "FireRedEditFal", "image_1"),
    ("FireRedEditFal", 0, "FireRedPasteRegion", "edited"),
    ("FireRedCropRegion", 1, "FireRedPasteRegion", "region"),
    ("LoadImage", 0, "FireRedMeasureDrift", "before"),
    ("FireRedPasteRegion", 0, "FireRedMeasureDrift", "after"),
    ("FireRedCropRegion", 2, "FireRedMeasureDrift", "mask"),
    ("FireRedMeasureDrift", 0, "SaveImage", "images"),
]

CONNECT = """(source, [slot, kind, name]) => {
    const target = app.graph.nodes.find(node => node.type === kind);
    const place = target.inputs.findIndex(input => (input.label ?? input.name) === name);
    return source.connect(slot, target, place) !== null;
}"""


@pytest.fixture
def painted(tmp_path: Path, editor: Editor) -> str:
    """The name of an uploaded photograph, a part of it painted in the mask editor's way."""
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[PAINTED] = 0
    file = tmp_path / "painted.png"
    Image.fromarray(np.concatenate([photograph(WIDTH, HEIGHT), alpha], axis=2)).save(file)
    return editor.comfyui.upload(file)


@in_both_renderers
def test_a_region_edit_is_built_run_and_measured(
    editor: Editor, painted: str, fal: FalServer
) -> None:
    editor.open_empty()
    for title, _, x, y in GRAPH:
        editor.place(title, x, y)
    for source, slot, target, name in LINKS:
        assert editor.on_node(source, CONNECT, [slot, target, name])
    editor.set("LoadImage", image=painted)
    editor.set("FireRedEditFal", prompt=f"a red button, {editor.renderer}")
    editor.run()
    assert editor.shown_picture("SaveImage") == (WIDTH, HEIGHT)
    editor.screenshot("region")
    assert len(fal.jobs) == 1
    width, height = (fal.jobs[0].arguments["image_size"][side] for side in ("width", "height"))
    assert width * height < 1.2 * 1024 * 1024
    with Image.open(editor.comfyui.output_file(_saved(editor))) as saved:
        outside = np.ones((HEIGHT, WIDTH), bool)
        outside[
            PAINTED[0].start - 33 : PAINTED[0].stop + 33,
            PAINTED[1].start - 33 : PAINTED[1].stop + 33,
        ] = False
        assert (
            np.asarray(saved.convert("RGB"))[outside] == photograph(WIDTH, HEIGHT)[outside]
        ).all()


def _saved(editor: Editor) -> dict[str, str]:
    image: dict[str, str] = editor.on_node(
        "SaveImage", "node => app.nodeOutputs[node.id].images[0]"
    )
    return image
