"""A failure of the pack's nodes: its own words, and a button that leads to the cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from doubles.fal_server import FalServer
from support.browser import Editor, in_both_renderers
from support.comfyui import wait_until
from support.server_fixtures import FAL_KEY

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser", "fal")

Picture = Callable[[int, int], str]

NODE = "FireRedEditFal"

SLOW_MS = 60_000
"""Until a page on a busy machine shows what it was told."""

HOSTILE = "<img src=x onerror=document.title='owned'>"
"""In part a notice is the words of a server."""


@pytest.fixture
def opened(editor: Editor, picture: Picture) -> Editor:
    """The shipped fal workflow on a small picture."""
    file = picture(120, 90)
    editor.open("firered_edit_fal")
    editor.set("LoadImage", image=file)
    return editor


def _notices(editor: Editor) -> Locator:
    return editor.page.locator(".firered-notices").get_by_role("alert")


def _run(editor: Editor) -> Locator:
    """Run what cannot go well; the notice of it."""
    editor.run()
    notice = _notices(editor)
    notice.wait_for(timeout=SLOW_MS)
    return notice


def _fail(editor: Editor, **failure: Any) -> None:
    """Tell the page of a failure as the server does."""
    told = {"node_id": "0", "problem": "No.", "remedy": "Do this.", "cures": ["node"], **failure}
    editor.page.evaluate("told => app.api.dispatchCustomEvent('firered.error', told)", told)


def _is_in_the_middle(editor: Editor) -> bool:
    """Whether the node is selected, and its middle near that of the canvas."""
    return bool(
        editor.on_node(
            NODE,
            """node => {
                const { canvas } = app;
                const scale = canvas.ds.scale, ratio = window.devicePixelRatio;
                const near = [0, 1].every((axis) => {
                    const middle = node.pos[axis] + node.size[axis] / 2 + canvas.ds.offset[axis];
                    const side = (axis ? canvas.canvas.height : canvas.canvas.width) / ratio;
                    return Math.abs(middle * scale - side / 2) < side / 4;
                });
                return near && canvas.selected_nodes[node.id] === node;
            }""",
        )
    )


def _no_trouble(editor: Editor) -> bool:
    return not [error for error in editor.errors if "firered" in error.lower()]


@in_both_renderers
def test_an_account_without_money_leads_to_fal_and_to_our_settings(
    opened: Editor, fal: FalServer
) -> None:
    fal.locked = True
    opened.set(NODE, prompt=f"An account without money, in {opened.renderer}")
    notice = _run(opened)
    expect(notice.get_by_role("heading")).to_have_text("FireRed Edit (fal)")
    expect(notice).to_contain_text("fal refuses this account")
    expect(notice).to_contain_text("See fal.ai/dashboard/billing.")
    billing = notice.get_by_role("link", name="Open billing at fal")
    expect(billing).to_have_attribute("href", "https://fal.ai/dashboard/billing")
    opened.screenshot("error_toast")

    notice.get_by_role("button", name="Open settings").click()
    dialog = opened.page.get_by_role("dialog")
    expect(dialog.get_by_text("Daily limit in US dollars")).to_be_visible(timeout=SLOW_MS)
    opened.screenshot("error_toast_settings")
    assert FAL_KEY not in opened.page.content()
    assert _no_trouble(opened)


@in_both_renderers
def test_too_low_a_max_cost_leads_to_its_node_wherever_that_is(opened: Editor) -> None:
    opened.set(NODE, max_cost=0.01)
    opened.page.evaluate("app.canvas.ds.offset = [-4000, 3000]; app.canvas.setDirty(true, true)")
    assert not _is_in_the_middle(opened)
    notice = _run(opened)
    expect(notice).to_contain_text("Raise max_cost, or lower num_images or the size.")
    button = notice.get_by_role("button", name="Show the node")
    button.focus()
    opened.page.keyboard.press("Enter")
    wait_until(lambda: _is_in_the_middle(opened))
    opened.screenshot("error_toast_node")
    assert _no_trouble(opened)


def test_a_node_inside_a_subgraph_is_shown_there(opened: Editor) -> None:
    opened.set(NODE, max_cost=0.01)
    opened.on_node(NODE, "node => { app.graph.convertToSubgraph(new Set([node])) }")
    notice = _run(opened)
    expect(notice.get_by_role("heading")).to_have_text("FireRed Edit (fal)")
    notice.get_by_role("button", name="Show the node").click()
    opened.page.wait_for_function("app.canvas.graph !== app.rootGraph")
    selected = "Object.values(app.canvas.selected_nodes).map(node => node.type)"
    opened.page.wait_for_function(f"String({selected}) === '{NODE}'")
    opened.screenshot("error_toast_subgraph")
    assert _no_trouble(opened)


def test_a_notice_is_closed_by_hand_or_by_the_next_run(opened: Editor, fal: FalServer) -> None:
    opened.set(NODE, max_cost=0.01, prompt="first too dear, then not")
    _run(opened).get_by_role("button", name="Close").press("Enter")
    expect(_notices(opened)).to_have_count(0)
    _run(opened)
    opened.set(NODE, max_cost=1.0)
    opened.run()
    expect(_notices(opened)).to_have_count(0, timeout=SLOW_MS)
    assert opened.shown_picture("SaveImage") == (120, 90)
    expect(_notices(opened)).to_have_count(0)


def test_of_many_failures_three_are_shown_and_the_same_one_is_counted(opened: Editor) -> None:
    for _ in range(100):
        _fail(opened, problem="The same.")
    expect(_notices(opened)).to_have_count(1)
    expect(_notices(opened).get_by_role("heading")).to_have_text("FireRed100 times")
    for number in range(4):
        _fail(opened, node_id=str(number), problem=f"Problem {number}. {HOSTILE}")
    expect(_notices(opened)).to_have_count(3)
    expect(_notices(opened)).to_contain_text([f"Problem {n}. {HOSTILE}" for n in (1, 2, 3)])
    opened.screenshot("error_toast_many")
    assert opened.page.title() != "owned"


def test_the_buttons_speak_the_language_of_comfyui(editor: Editor, fal: FalServer) -> None:
    fal.locked = True
    editor.prefer("zh", "light")
    editor.open("firered_edit_fal")
    editor.set(NODE, prompt="把夹克改成红色")
    notice = _run(editor)
    expect(notice.get_by_role("link", name="打开 fal 账单页面")).to_be_visible()
    expect(notice.get_by_role("button", name="关闭")).to_be_visible()
    editor.screenshot("error_toast_zh")
    notice.get_by_role("button", name="打开设置").click()
    dialog = editor.page.get_by_role("dialog")
    expect(dialog.locator("[id='FireRed.DailyLimit']")).to_be_visible(timeout=SLOW_MS)
    assert _no_trouble(editor)
