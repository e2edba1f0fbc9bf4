"""The help of each node in ComfyUI's own panel, in both languages."""

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

DOCS = ROOT / "web" / "docs"
CHINESE: dict[str, Any] = json.loads(
    (ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8")
)
NODES = sorted(CHINESE)

SELECT = """type => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [600, 250];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.canvas.selectItems([node]);
}"""

IS_LOADED = "picture => picture.complete && picture.naturalWidth > 0"
IS_CUT = """page => [page, ...page.querySelectorAll("*")]
    .filter(part => part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0)
    .map(part => part.outerHTML.slice(0, 80))"""


@pytest.fixture
def language(editor: Editor, request: pytest.FixtureRequest) -> str:
    """The language of pages that the test opens."""
    editor.prefer(request.param)
    return str(request.param)


@in_both_renderers
@in_both_languages
def test_the_help_of_every_node_shows_whole_with_its_picture(editor: Editor, language: str) -> None:
    editor.open("firered_edit_fal")
    for node in NODES:
        page = _help(editor, node)
        expect(page.get_by_role("heading", level=1)).to_have_text(_heading(node, language))
        pictures = page.locator("img")
        expect(pictures).to_have_count(1)
        pictures.evaluate("picture => picture.decode()")
        assert pictures.evaluate(IS_LOADED)
        assert page.evaluate(IS_CUT) == []
    editor.screenshot(f"help_{language}")
    assert [error for error in editor.errors if "firered" in error.lower()] == []


def _help(editor: Editor, node: str) -> Locator:
    """The panel's page about a node, opened as an artist does: by the button above the node."""
    editor.page.evaluate(SELECT, node)
    editor.page.get_by_test_id("info-button").click()
    page = editor.page.get_by_test_id("properties-panel").locator(".node-help-content")
    expect(page.locator("img[src*='/docs/']")).to_be_visible()
    return page


def _heading(node: str, language: str) -> str:
    text = (DOCS / node / f"{language}.md").read_text(encoding="utf-8")
    return text.splitlines()[0].removeprefix("# ")
