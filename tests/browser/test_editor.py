"""Both edit nodes in ComfyUI's own editor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from doubles.fal_server import FalServer
from support.browser import Editor, in_both_renderers
from support.comfyui import PACK_FOLDER, wait_until
from support.server_fixtures import MODEL_FOLDER

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

of_both_nodes = pytest.mark.parametrize("node", ["FireRedEdit", "FireRedEditFal"])

TITLES = {"FireRedEdit": "FireRed Edit (Local)", "FireRedEditFal": "FireRed Edit (fal)"}


def test_the_pack_shows_no_console_error_and_asks_for_nothing_beyond_loopback(
    editor: Editor,
) -> None:
    editor.open("firered_edit_local")
    # ComfyUI's own page asks for the sizes of files that are missing, whose names are FireRed's.
    ours = f"/extensions/{PACK_FOLDER}/"
    assert [error for error in editor.errors if ours in error] == []
    assert editor.outside == []


@of_both_nodes
@in_both_renderers
def test_node_search_finds_a_node_and_its_picture_slots_grow_and_shrink(
    editor: Editor, node: str
) -> None:
    editor.open_empty()
    assert "FireRed" in editor.place(TITLES[node], 1000, 150)
    editor.place("Load Image", 400, 150)
    assert _picture_slots(editor, node) == ["image_1", "image_2"]
    for slot in ("image_1", "image_2"):
        _connect_picture(editor, node, slot)
    assert _picture_slots(editor, node) == ["image_1", "image_2", "image_3"]
    editor.screenshot(f"slots_{node}")
    _disconnect(editor, node, "image_2")
    assert _picture_slots(editor, node) == ["image_1", "image_2"]


@of_both_nodes
@in_both_renderers
def test_a_custom_size_asks_for_width_and_height(editor: Editor, node: str) -> None:
    editor.open("firered_edit_local" if node == "FireRedEdit" else "firered_edit_fal")
    wait_until(lambda: _under_size(editor, node)[:1] == ["index"])
    editor.set(node, size="custom")
    wait_until(lambda: _under_size(editor, node)[:2] == ["width", "height"])
    editor.screenshot(f"custom_size_{node}")
    assert "index" not in editor.labels(node)


def test_run_on_the_fal_workflow_saves_and_shows_a_picture_of_the_size_of_the_input(
    editor: Editor, fal: FalServer, picture: Callable[[int, int], str]
) -> None:
    file = picture(123, 77)
    editor.open("firered_edit_fal")
    editor.set("LoadImage", image=file)
    _assert_run_gives(editor, (123, 77), "run_fal")
    assert len(fal.jobs) == 1


def test_run_on_the_local_workflow_saves_and_shows_a_picture_of_the_size_of_the_input(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    file = picture(123, 77)
    editor.open("firered_edit_local")
    editor.set("LoadImage", image=file)
    editor.set("FireRedLoadModel", source="folder", **{"source.folder": MODEL_FOLDER})
    editor.set("FireRedEdit", num_inference_steps=2, working_megapixels=0.05)
    _assert_run_gives(editor, (123, 77), "run_local")


@in_both_renderers
def test_an_empty_prompt_is_explained_in_the_error_panel(editor: Editor) -> None:
    editor.open("firered_edit_fal")
    editor.set("FireRedEditFal", prompt="")
    editor.run()
    editor.page.get_by_role("button", name="View details").click()
    editor.page.get_by_role("button", name="Info for FireRed Edit (fal) - prompt").click()
    words = "The prompt is empty. Write what to change in the picture."
    editor.page.get_by_text(words).wait_for()
    editor.screenshot("empty_prompt")


def _under_size(editor: Editor, node: str) -> list[str]:
    """The labels below that of the size, once it is shown."""
    labels = editor.labels(node)
    return labels[labels.index("size") + 1 :] if "size" in labels else []


def _picture_slots(editor: Editor, node: str) -> list[str]:
    """The labels of the slots for pictures, in order."""
    inputs: list[dict[str, Any]] = editor.on_node(node, "node => node.serialize().inputs")
    return [slot["label"] for slot in inputs if slot["type"] == "IMAGE"]


def _connect_picture(editor: Editor, node: str, slot: str) -> None:
    script = """(node, name) => app.graph.nodes.find(source => source.type === "LoadImage")
        .connect(0, node, node.inputs.findIndex(input => input.label === name)) && null"""
    editor.on_node(node, script, slot)


def _disconnect(editor: Editor, node: str, slot: str) -> None:
    script = """async (node, name) => {
        node.disconnectInput(node.inputs.findIndex(input => input.label === name));
        await new Promise(requestAnimationFrame);
    }"""
    editor.on_node(node, script, slot)


def _assert_run_gives(editor: Editor, size: tuple[int, int], name: str) -> None:
    editor.run()
    assert editor.shown_picture("SaveImage") == size
    editor.screenshot(name)
    image = editor.on_node("SaveImage", "node => app.nodeOutputs[node.id].images[0]")
    with Image.open(editor.comfyui.output_file(image)) as saved:
        assert saved.size == size
