"""Nodes, tooltips, settings and templates in Chinese, on ComfyUI's own page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from support.browser import Editor, in_both_renderers
from support.pack import ROOT

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

in_both_languages = pytest.mark.parametrize("language", ["en", "zh"], indirect=True)
in_chinese = pytest.mark.parametrize("language", ["zh"], indirect=True)


def _locale(language: str, name: str) -> dict[str, Any]:
    file = ROOT / "locales" / language / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


NODES = _locale("zh", "nodeDefs")

PLACE = """types => {
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    types.forEach((type, number) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = [100 + (number % 4) * 370, 150 + Math.floor(number / 4) * 560];
    });
}"""

SHOWN = """node => ({
    title: node.title,
    inputs: Object.fromEntries(node.inputs.map(each => [each.name, each.localized_name])),
    outputs: node.outputs.map(each => each.localized_name),
    widgets: Object.fromEntries((node.widgets ?? []).map(each => [each.name, each.label])),
})"""

POINT = """(node, name) => {
    const widget = node.widgets.find(each => each.name === name);
    const slot = node.inputs.findIndex(each => each.name === name);
    const [left, top] = node.pos;
    const [x, y] = widget ? [left + 40, top + widget.y + 10] : node.getInputPos(slot);
    const page = app.canvas.canvas.getBoundingClientRect();
    const { scale, offset } = app.canvas.ds;
    return [page.left + (x + offset[0]) * scale, page.top + (y + offset[1]) * scale];
}"""


@pytest.fixture
def language(editor: Editor, request: pytest.FixtureRequest) -> str:
    """The language of pages that the test opens."""
    editor.prefer(request.param)
    return str(request.param)


def _place(editor: Editor, *nodes: str) -> None:
    """A workflow of these nodes alone."""
    editor.open_empty()
    editor.page.evaluate(PLACE, list(nodes))
    editor.page.wait_for_load_state("networkidle")


@in_both_renderers
@in_chinese
def test_nodes_are_labelled_in_chinese(editor: Editor, language: str) -> None:
    _place(editor, *NODES)
    editor.screenshot(f"nodes_{language}")
    for node, texts in NODES.items():
        shown = editor.on_node(node, SHOWN)
        names = {key: text.get("name") for key, text in texts["inputs"].items()}
        assert shown["title"] == texts["display_name"]
        assert shown["outputs"] == [text["name"] for text in texts["outputs"].values()]
        # ComfyUI's own, and in its own words.
        shown["widgets"].pop("control_after_generate", None)
        for labels in (shown["inputs"], shown["widgets"]):
            assert labels == {key: names[key.replace(".", "_")] or key for key in labels}


@in_both_renderers
@in_both_languages
def test_inputs_explain_themselves_in_the_language_of_the_page(
    editor: Editor, language: str
) -> None:
    _place(editor, "FireRedEdit")
    texts = _explained(editor) if language == "en" else NODES["FireRedEdit"]["inputs"]
    tooltip = editor.page.locator(".node-tooltip, .p-tooltip-text").filter(visible=True)
    for name in ("seed", "size.index", "images.image_1"):
        key = name.replace(".", "_")
        _point_at(editor, name, language)
        expect(tooltip).to_have_text(texts[key]["tooltip"])
        editor.screenshot(f"tooltip_{key}_{language}")


def _explained(editor: Editor) -> dict[str, Any]:
    """The English tooltips, from where each is found."""
    described = editor.comfyui.get("/object_info/FireRedEdit")["FireRedEdit"]["input"]["required"]
    plain = {key: details for key, (_, details) in described.items()}
    return plain | _locale("en", "nodeDefs")["FireRedEdit"]["inputs"]


def _point_at(editor: Editor, name: str, language: str) -> None:
    if editor.renderer == "classic":
        x, y = editor.on_node("FireRedEdit", POINT, name)
        # ComfyUI waits for a pointer that has moved and stays.
        editor.page.mouse.move(x, y + 1)
        editor.page.mouse.move(x, y)
    else:
        _label(editor, name, language).hover()


def _label(editor: Editor, name: str, language: str) -> Locator:
    node = editor.element("FireRedEdit")
    if name == "images.image_1":
        return node.get_by_text("image_1", exact=True)
    text = NODES["FireRedEdit"]["inputs"][name.replace(".", "_")]["name"]
    shown = text if language == "zh" else name.split(".")[-1]
    return node.get_by_test_id("widget-layout-field-label").get_by_text(shown, exact=True)


@in_chinese
def test_settings_are_in_chinese(editor: Editor, language: str) -> None:
    editor.open("firered_edit_fal")
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("FireRed", exact=True).click()
    for texts in _locale("zh", "settings").values():
        expect(dialog.get_by_text(texts["name"], exact=True).first).to_be_visible()
    for name in _locale("zh", "main")["settingsCategories"].values():
        expect(dialog.get_by_role("heading", name=name)).to_be_visible()
    editor.screenshot(f"settings_{language}")


@in_both_languages
def test_templates_stand_under_the_name_of_the_pack(editor: Editor, language: str) -> None:
    editor.open("firered_edit_fal")
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    (name,) = set(_locale(language, "main")["templateWorkflows"]["category"].values())
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(name, exact=True).click()
    expect(dialog.get_by_text("firered_edit_fal").first).to_be_visible()
    editor.screenshot(f"templates_{language}")
