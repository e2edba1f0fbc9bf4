"""What an artist sees on a node while it runs, and that nothing of it is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from doubles.fal_server import FalServer
from support.browser import Editor, in_both_renderers
from support.comfyui import wait_until
from support.server_fixtures import MODEL_FOLDER

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser", "fal")

Picture = Callable[[int, int], str]

SLOW_MS = 60_000
"""Until a tiny edit on a busy machine has come as far."""

CLOCK = re.compile(r"· \d+:\d\d")
QUEUED = re.compile(r"queue position \d+ · 0:0[1-9]")
AT_WORK = re.compile(r"step \d+/\d+ · 0:0[1-9]")


FITS = """element => {
    const text = element.getBoundingClientRect();
    for (let box = element; box; box = box.parentElement) {
        if (getComputedStyle(box).overflowY === "visible") continue;
        if (text.bottom > box.getBoundingClientRect().bottom + 1) return false;
    }
    return true;
}"""


def _open_local(editor: Editor, picture: Picture) -> None:
    """The local example with the tiny model."""
    file = picture(120, 90)
    editor.open("firered_edit_local")
    editor.set("LoadImage", image=file)
    editor.set("FireRedLoadModel", source="folder", **{"source.folder": MODEL_FOLDER})


def _says(editor: Editor, words: str | re.Pattern[str]) -> Locator:
    """The text on a node; both renderers have it in the page."""
    return editor.page.get_by_text(words)


def _bar(editor: Editor, node: str) -> float:
    """How far the bar of ``node`` is; 0 where there is none."""
    return float(editor.on_node(node, "node => node.progress ?? 0"))


@in_both_renderers
def test_an_edit_on_fal_shows_its_place_its_time_and_its_bar_and_then_only_what_it_came_to(
    editor: Editor, fal: FalServer, picture: Picture
) -> None:
    fal.queue_seconds, fal.run_seconds = 4.0, 3.0
    file = picture(123, 77)
    editor.open("firered_edit_fal")
    editor.set("LoadImage", image=file)
    editor.set("FireRedEditFal", prompt=f"Turn the jacket red, for {editor.renderer}")
    editor.run()
    expect(_says(editor, QUEUED)).to_be_visible(timeout=SLOW_MS)
    expect(_says(editor, AT_WORK)).to_be_visible(timeout=SLOW_MS)
    assert 0 < _bar(editor, "FireRedEditFal") < 1
    editor.screenshot("progress_fal")
    assert editor.shown_picture("SaveImage") == (123, 77)
    cost = _says(editor, "cost $0.0325")
    expect(cost).to_be_visible(timeout=SLOW_MS)
    assert cost.evaluate(FITS), "no line of it is cut off"
    expect(_says(editor, CLOCK)).to_have_count(0)
    wait_until(lambda: _bar(editor, "FireRedEditFal") == 0)
    editor.screenshot("progress_fal_done")


@in_both_renderers
def test_a_local_edit_counts_its_steps_and_a_cancelled_one_none(
    editor: Editor, picture: Picture
) -> None:
    _open_local(editor, picture)
    editor.set("FireRedEdit", num_inference_steps=50, num_images=4, working_megapixels=0.2)
    editor.run()
    steps = re.compile(r"step \d+/200 · \d:\d\d of about \d:\d\d")
    expect(_says(editor, steps)).to_be_visible(timeout=SLOW_MS)
    assert 0 < _bar(editor, "FireRedEdit") < 1
    editor.screenshot("progress_local")
    editor.page.evaluate("app.api.interrupt(null)")
    expect(_says(editor, re.compile("^cancelled$"))).to_be_visible(timeout=SLOW_MS)
    expect(_says(editor, re.compile(r"step \d+/200"))).to_have_count(0)
    wait_until(lambda: _bar(editor, "FireRedEdit") == 0)
    editor.screenshot("progress_cancelled")


def test_what_an_earlier_run_said_is_gone_from_a_node_that_this_one_does_not_reach(
    editor: Editor, picture: Picture
) -> None:
    _open_local(editor, picture)
    editor.set("FireRedEdit", prompt="put on the hat of @image7")
    editor.run()
    problem = "The prompt names @image7, but connected: @image1 only."
    words = f"{problem} Connect that picture or change the name."
    expect(_says(editor, words)).to_be_visible(timeout=SLOW_MS)
    editor.set("FireRedLoadModel", source="hub")
    editor.run()
    loader = _says(editor, re.compile(r"downloads are not allowed .* then run again\.$"))
    expect(loader).to_be_visible(timeout=SLOW_MS)
    expect(_says(editor, words)).to_have_count(0)
    editor.screenshot("progress_leftovers")
