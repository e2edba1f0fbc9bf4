"""Node menu: templates for prompts, in two languages; and room to write in on a new node."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from firered_edit.pipeline.prompts import resolve_names
from support.browser import Editor, in_both_renderers
from support.comfyui import PACK_FOLDER

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

of_both_nodes = pytest.mark.parametrize("node", ["FireRedEdit", "FireRedEditFal"])

FAL = "FireRedEditFal"
TITLES = {"FireRedEdit": "FireRed Edit (Local)", FAL: "FireRed Edit (fal)"}

ROOM = 100
"""Pixels that a prompt on a new node has at least: six lines."""


@in_both_renderers
def test_a_template_goes_into_an_empty_prompt_and_another_takes_its_place(editor: Editor) -> None:
    editor.open("firered_edit_fal")
    editor.set(FAL, prompt="")
    editor.choose(FAL, "Prompt template", "Relight")
    english, chinese = _templates(editor, "en"), _templates(editor, "zh")
    assert _prompt(editor) == english["Relight"]
    editor.choose(FAL, "Prompt template in Chinese", "上妆")
    assert _prompt(editor) == chinese["上妆"]
    editor.screenshot("template")
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_function(PROMPT_IS, arg=english["Relight"])


def test_what_the_artist_wrote_is_kept_and_the_template_follows_it(editor: Editor) -> None:
    editor.open("firered_edit_local")
    template = _templates(editor, "en")["Makeup"]
    written = template.replace("[rose]", "cherry")
    editor.set("FireRedEdit", prompt=f"{written}\n")
    editor.choose("FireRedEdit", "Prompt template", "Makeup")
    assert _prompt(editor, "FireRedEdit") == f"{written}\n{template}"
    editor.screenshot("template_appended")


@in_both_renderers
def test_the_menu_of_a_chinese_page_is_chinese(editor: Editor) -> None:
    editor.prefer("zh")
    editor.open("firered_edit_fal")
    editor.set(FAL, prompt="")
    editor.open_menu(FAL)
    for name in ("改用本地 GPU", "提示词模板", "英文提示词模板"):
        expect(editor.menu_item(name)).to_be_visible()
    editor.pick("提示词模板", "修复老照片")
    assert _prompt(editor) == _templates(editor, "zh")["修复老照片"]
    editor.screenshot("template_chinese")


LINK_THE_PROMPT = """node => {
    const text = LiteGraph.createNode("PrimitiveStringMultiline");
    app.graph.add(text);
    text.connect(0, node, node.findInputSlot("prompt"));
}"""


def test_a_template_for_a_linked_prompt_is_copied(editor: Editor) -> None:
    editor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.open("firered_edit_fal")
    editor.set(FAL, prompt="mine")
    editor.on_node(FAL, LINK_THE_PROMPT)
    editor.choose(FAL, "Prompt template", "Change text")
    expect(editor.page.get_by_text("The prompt comes from another node")).to_be_visible()
    copied = editor.page.evaluate("navigator.clipboard.readText()")
    assert copied == _templates(editor, "en")["Change text"]
    assert _prompt(editor) == "mine"


def test_a_template_for_a_linked_prompt_is_shown_where_nothing_can_be_copied(
    editor: Editor,
) -> None:
    editor.open("firered_edit_fal")
    editor.on_node(FAL, LINK_THE_PROMPT)
    refuse = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    editor.page.evaluate(refuse)
    editor.choose(FAL, "Prompt template", "Relight")
    expect(editor.page.get_by_text(_templates(editor, "en")["Relight"])).to_be_visible()


def test_templates_exist_in_both_languages_and_name_only_pictures_that_are_there(
    editor: Editor,
) -> None:
    editor.open("firered_edit_fal")
    english, chinese = (list(_templates(editor, code).values()) for code in ("en", "zh"))
    assert len(english) == len(chinese) >= 8
    for text, translated in zip(english, chinese, strict=True):
        blanks = [len(re.findall(r"\[[^\[\]]+\]", version)) for version in (text, translated)]
        assert blanks[0] == blanks[1] > 0
        pictures = 2 if "@image2" in text else 1
        for version in (text, translated):
            resolved = resolve_names(version, pictures)
            assert resolved.notices == ()
            assert ("@" in version) == (pictures == 2) == (resolved.text != version)


@of_both_nodes
def test_a_new_node_has_room_to_write_and_a_loaded_one_keeps_its_size(
    editor: Editor, node: str
) -> None:
    editor.open_empty()
    editor.place(TITLES[node], 700, 150)
    editor.screenshot(f"placed_{node}")
    height = "node => node.widgets.find(widget => widget.name === 'prompt').computedHeight"
    assert editor.on_node(node, height) >= ROOM
    saved = editor.saved()
    for size in (saved["nodes"][0]["size"], [420, 620]):
        saved["nodes"][0]["size"] = size
        editor.load(saved)
        assert editor.on_node(node, "node => [...node.size]") == size


PROMPT_IS = """text => app.graph.nodes.find(node => node.type === "FireRedEditFal")
    .widgets.find(widget => widget.name === "prompt").value === text"""


def _prompt(editor: Editor, node: str = FAL) -> str:
    """What the artist sees in the prompt's box."""
    if editor.renderer == "nodes 2.0":
        return editor.element(node).get_by_role("textbox").first.input_value()
    script = "node => node.widgets.find(widget => widget.name === 'prompt').element.value"
    return str(editor.on_node(node, script))


def _templates(editor: Editor, code: str) -> dict[str, str]:
    """The page's own templates in a language: name to text."""
    module = f"/extensions/{PACK_FOLDER}/words/{code}.js"
    script = f"async () => Object.values(await import('{module}'))[0].templates.list"
    listed: list[dict[str, Any]] = editor.page.evaluate(script)
    return {template["name"]: template["text"] for template in listed}
