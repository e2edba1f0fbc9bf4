"""The shipped workflows in ComfyUI's own editor: templates, missing files, saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from support.browser import Editor, in_both_renderers
from support.comfyui import PACK_FOLDER, wait_until
from support.examples import BATCH_FOLDER, EXAMPLES, FILES, LIGHTNING, MAKEUP, Model
from support.model_files import write_model_files
from support.workflows import RELEASED, all_released, released, shipped

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser", "furnished")

OVERLAPS = """() => {
    const { ds } = app.canvas;
    const places = app.graph.nodes.map(({ id, type, pos, size }) => {
        const element = document.querySelector(`[data-node-id="${id}"]`);
        const height = element ? element.getBoundingClientRect().height / ds.scale : size[1] + 30;
        return { type, left: pos[0], top: pos[1] - 30, right: pos[0] + size[0],
                 bottom: pos[1] - 30 + height };
    });
    const touch = (a, b) => a.left < b.right && b.left < a.right
        && a.top < b.bottom && b.top < a.bottom;
    return places.flatMap((a, index) => places.slice(index + 1).filter(b => touch(a, b))
        .map(b => `${a.type} and ${b.type}`));
}"""


@pytest.fixture(scope="module")
def furnished(base: Path) -> None:
    """Every file and folder that an example names is there."""
    write_model_files(base)
    (base / "input" / BATCH_FOLDER).mkdir(exist_ok=True)


def _errors_found(editor: Editor) -> Locator:
    """What ComfyUI shows where a workflow it has opened lacks something."""
    return editor.page.get_by_text("Resolve them before running the workflow.")


@in_both_renderers
def test_every_example_opens_whole_and_saved_and_loaded_again_it_is_the_same(
    editor: Editor,
) -> None:
    first, *others = (example.name for example in EXAMPLES)
    editor.open(first)
    _assert_whole(editor, first)
    for name in others:
        editor.load(_template(editor, name))
        _assert_whole(editor, name)


def _assert_whole(editor: Editor, name: str) -> None:
    editor.screenshot(name)
    unknown = "app.graph.nodes.filter(node => !(node.type in LiteGraph.registered_node_types))"
    assert editor.page.evaluate(unknown) == []
    assert editor.page.get_by_role("dialog").count() == 0
    assert not editor.on_all("node => node.has_errors").count(True)
    assert _errors_found(editor).count() == 0
    wait_until(lambda: editor.page.evaluate(OVERLAPS) == [])
    assert editor.api_prompt() == shipped(name)
    saved = editor.saved()
    editor.load(saved)
    assert editor.saved() == saved


def test_a_workflow_of_any_version_opens_with_its_links_and_values(editor: Editor) -> None:
    """What it then sends is what it sent."""
    editor.open_empty()
    for version, name in all_released():
        editor.load(json.loads((RELEASED / version / f"{name}.json").read_text(encoding="utf-8")))
        assert not editor.on_all("node => node.has_errors").count(True), (version, name)
        assert editor.api_prompt() == released(version, name)


def test_files_that_are_missing_are_offered_for_download(editor: Editor) -> None:
    editor.open_empty()
    models = [*FILES, LIGHTNING]
    editor.load(_without_files(editor, models))
    editor.page.get_by_role("button", name="View details").click()
    downloads = editor.page.get_by_role("button", name="Download absent-")
    expect(downloads).to_have_count(len(models))
    editor.screenshot("missing_files")
    for model in models:
        button = editor.page.get_by_role("button", name=f"Download absent-{model.name}")
        with editor.page.context.expect_event(
            "request", lambda sent, url=model.url: sent.url == url
        ):
            button.click()


def test_the_template_browser_shows_every_example_with_its_picture(editor: Editor) -> None:
    editor.open_empty()
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("FireRed Edit", exact=True).first.click()
    for example in EXAMPLES:
        picture = dialog.get_by_role("img", name=example.name, exact=True)
        picture.scroll_into_view_if_needed()
        editor.page.wait_for_function(
            "picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle()
        )
    editor.screenshot("templates")


def _template(editor: Editor, name: str) -> dict[str, Any]:
    """A shipped workflow as the page gets it."""
    return dict(editor.comfyui.get(f"/api/workflow_templates/{PACK_FOLDER}/{name}.json"))


def _without_files(editor: Editor, models: list[Model]) -> dict[str, Any]:
    """The makeup workflow as if none of its files were there."""
    text = json.dumps(_template(editor, MAKEUP.name))
    for model in models:
        text = text.replace(f'"{model.name}"', f'"absent-{model.name}"')
    return dict(json.loads(text))
