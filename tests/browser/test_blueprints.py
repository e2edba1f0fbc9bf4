"""The blueprints: found in node search, inserted, and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer
from support.blobs import disc
from support.browser import Editor, in_both_renderers
from support.comfyui import ComfyUI
from support.examples import BLUEPRINT_FAL, BLUEPRINT_LOCAL, BLUEPRINT_REGION
from support.graphs import Blueprint
from support.kinds import MakePhoto
from support.model_files import write_model_files

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

CONNECT = """async title => {
    const find = key => app.graph.nodes.find(node => node.type === key || node.title === key);
    const [load, blueprint, save] = ["LoadImage", title, "SaveImage"].map(find);
    load.connect(0, blueprint, "image");
    if (blueprint.inputs.some(input => input.name === "mask")) load.connect(1, blueprint, "mask");
    blueprint.connect(0, save, "images");
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
}"""

SET = """([title, values]) => {
    const blueprint = app.graph.nodes.find(node => node.title === title);
    for (const [name, value] of Object.entries(values)) {
        const widget = blueprint.widgets.find(widget => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
    }
}"""

SET_INSIDE = """([title, values]) => {
    const { subgraph } = app.graph.nodes.find(node => node.title === title);
    for (const { widgets = [] } of subgraph.nodes)
        for (const widget of widgets) if (widget.name in values) widget.value = values[widget.name];
}"""


@pytest.fixture
def painted(comfyui: ComfyUI, photo: MakePhoto, tmp_path: Path) -> str:
    """The name of an uploaded picture with a painted mask."""
    file = tmp_path / "painted_blueprint.png"
    alpha = 255 * (1 - disc(240, 180, 30, (100, 80)).numpy())
    Image.fromarray(np.dstack([photo(240, 180), alpha.astype(np.uint8)])).save(file)
    return comfyui.upload(file)


def _insert(editor: Editor, blueprint: Blueprint, picture: str) -> None:
    """Load Image, the blueprint and Save Image, connected, with a prompt of this test's own."""
    editor.open_empty()
    said = editor.place(blueprint.name, 700, 150, blueprint=True)
    assert blueprint.name in said
    assert blueprint.description in said
    editor.place("Load Image", 300, 150)
    # Below the notice of edits on fal that wait, as other tests may have left them.
    editor.place("Save Image", 1200, 500)
    editor.set("LoadImage", image=picture)
    editor.page.evaluate(CONNECT, blueprint.name)
    prompt = f"a sign that reads {blueprint.name} in {editor.renderer}"
    editor.page.evaluate(SET, [blueprint.name, {"prompt": prompt}])


def _run(editor: Editor, name: str) -> tuple[int, int]:
    """Press Run; width and height of what was saved."""
    editor.run()
    images = editor.shown_images("SaveImage")
    editor.screenshot(name)
    assert len(images) == 1
    with Image.open(editor.comfyui.output_file(images[0])) as saved:
        return saved.size


@in_both_renderers
def test_the_local_blueprint_runs_with_and_without_lightning(
    editor: Editor, base: Path, picture: Callable[[int, int], str]
) -> None:
    write_model_files(base)
    _insert(editor, BLUEPRINT_LOCAL, picture(120, 90))
    quick = {"num_inference_steps": 2, "working_megapixels": 0.02}
    editor.page.evaluate(SET_INSIDE, [BLUEPRINT_LOCAL.name, quick])
    assert _run(editor, "blueprint_local") == (120, 90)
    editor.page.evaluate(SET, [BLUEPRINT_LOCAL.name, {"lightning": True}])
    prompt = editor.api_prompt()
    assert [
        node["inputs"]["switch"]
        for node in prompt.values()
        if node["class_type"] == "ComfySwitchNode"
    ] == [True]


@in_both_renderers
def test_the_fal_blueprint_runs(
    editor: Editor, fal: FalServer, picture: Callable[[int, int], str]
) -> None:
    _insert(editor, BLUEPRINT_FAL, picture(120, 90))
    assert _run(editor, "blueprint_fal") == (120, 90)
    assert len(fal.jobs) == 1


@in_both_renderers
def test_the_region_blueprint_gives_the_whole_picture_back(
    editor: Editor, fal: FalServer, painted: str
) -> None:
    _insert(editor, BLUEPRINT_REGION, painted)
    assert _run(editor, "blueprint_region") == (240, 180)
    assert len(fal.jobs) == 1
