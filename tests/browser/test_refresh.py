"""R, ComfyUI's key for new files: the lists of FireRed Load Model know it too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.browser import Editor

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

LOADER = "FireRedLoadModel"
VALUES = "(node, name) => node.widgets.find(widget => widget.name === name).options.values"


@pytest.fixture
def late(base: Path) -> Iterator[Path]:
    """A model folder, not there yet, and gone after the test."""
    folder = base / "models" / "diffusers" / "late-model"
    yield folder
    shutil.rmtree(folder)


def test_a_folder_that_came_later_is_offered_after_r(editor: Editor, late: Path) -> None:
    editor.open("firered_edit_local")
    editor.set(LOADER, source="folder")
    before = editor.on_node(LOADER, VALUES, "source.folder")
    assert late.name not in before
    late.mkdir()
    (late / "model_index.json").write_text("{}")
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    editor.page.wait_for_function(
        "([type, name]) => app.graph.nodes.find(node => node.type === type).widgets"
        ".find(widget => widget.name === 'source.folder').options.values.includes(name)",
        arg=[LOADER, late.name],
    )
    after = editor.on_node(LOADER, VALUES, "source.folder")
    assert sorted(after) == sorted([*before, late.name])
