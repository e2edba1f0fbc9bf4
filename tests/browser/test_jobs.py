"""Settings > FireRed > fal: what fal is asked, and what waits to be collected."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Route, expect

from doubles.fal_server import FalServer
from firered_edit.pipeline.host import RemoteSettings
from support.browser import Editor
from support.comfyui import wait_until
from support.kinds import MakePhoto
from support.orphans import Orphan, data_folder, forget_all, leave_finished
from support.settings_page import no_trouble, open_settings, panel

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser", "fal")

PALETTE = "Comfy.ColorPalette"

seeds = itertools.count(1)

WINDOW, LIMIT, HOURS = "FireRed.Window", "FireRed.DailyLimit", "FireRed.UploadHours"
_SERVER = RemoteSettings()
DEFAULTS = {
    WINDOW: _SERVER.window,
    LIMIT: _SERVER.daily_limit or 0,
    HOURS: _SERVER.upload_lifetime_s / 3600,
}

PROMPT = "<img src=x onerror=document.title='owned'> turn the jacket red, keep the face"
"""Prompts come with workflows that strangers share."""


@dataclass
class Left:
    """An editor, not yet opened, and the two edits that wait in its ComfyUI."""

    editor: Editor
    hostile: Orphan
    short: Orphan

    def saved(self) -> set[Path]:
        """What was collected into the output folder."""
        return set((self.editor.comfyui.base / "output").glob("FireRed_*.png"))


@pytest.fixture
def left(editor: Editor, photo: MakePhoto) -> Iterator[Left]:
    """Two edits that were left behind, and no other; settings are put back."""
    folder = data_folder(editor.comfyui.base)
    forget_all(folder)
    # The same edit can be ordered only once.
    hostile, short = Orphan(PROMPT, next(seeds)), Orphan("把背景变成夜晚", 2**32 - next(seeds))
    for orphan in (hostile, short):
        leave_finished(folder, orphan, [photo(80, 50)])
    yield Left(editor, hostile, short)
    forget_all(folder)
    editor.comfyui.post("/settings", {PALETTE: "dark", **DEFAULTS}).raise_for_status()


def _row(dialog: Locator, orphan: Orphan) -> Locator:
    return dialog.get_by_role("row").filter(has=dialog.page.get_by_title(orphan.prompt))


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_an_edit_that_waits_is_announced_listed_collected_and_gone(
    left: Left, theme: str, fal: FalServer
) -> None:
    editor = left.editor
    editor.comfyui.post("/settings", {PALETTE: theme}).raise_for_status()
    before = left.saved()
    editor.open("firered_edit_fal")
    toast = editor.page.get_by_role("alert")
    words = "2 edits on fal are paid and wait to be collected: Settings > FireRed > fal"
    expect(toast.get_by_text(words)).to_have_count(1)

    dialog = open_settings(editor)
    row = _row(dialog, left.hostile)
    cells = [left.hostile.prompt, str(left.hostile.seed), "ready", "$0.0325"]
    # The prompt as text, which it would not be where it was taken for HTML.
    expect(row.get_by_role("cell")).to_contain_text([*cells, "", "Collect"])
    editor.screenshot(f"jobs_{theme}")

    row.get_by_role("button", name="Collect").click()
    expect(row).to_have_count(0)
    (file,) = left.saved() - before
    expect(toast.get_by_text(file.name)).to_be_visible()
    with Image.open(file) as saved:
        assert saved.size == (80, 50)
    editor.screenshot(f"jobs_collected_{theme}")

    _row(dialog, left.short).get_by_role("button", name="Collect").click()
    expect(dialog.get_by_text("No edit waits to be collected.")).to_be_visible()
    editor.screenshot(f"jobs_none_{theme}")
    assert editor.page.title() != "owned"
    assert no_trouble(editor)
    assert fal.requests == []


def test_what_another_page_has_collected_is_explained_and_refresh_shows_what_is_new(
    left: Left, photo: MakePhoto
) -> None:
    editor = left.editor
    editor.open("firered_edit_fal")
    dialog = open_settings(editor)
    row = _row(dialog, left.hostile)
    expect(row).to_be_visible()
    folder = data_folder(editor.comfyui.base)
    forget_all(folder)
    late = Orphan("a late one", next(seeds))
    leave_finished(folder, late, [photo(80, 50)])

    before = left.saved()
    row.get_by_role("button", name="Collect").click()
    words = "This edit does not wait to be collected. Refresh the list."
    expect(dialog.get_by_role("alert")).to_have_text(words)
    expect(_row(dialog, late)).to_be_visible()
    assert left.saved() == before

    forget_all(folder)
    panel(dialog, "Jobs").get_by_role("button", name="Refresh").click()
    expect(dialog.get_by_text("No edit waits to be collected.")).to_be_visible()


def _question(editor: Editor) -> Locator:
    return editor.page.get_by_role("dialog").filter(has_text="Give up this edit?")


def test_what_is_given_up_is_gone_after_a_question_and_never_announced_again(left: Left) -> None:
    editor = left.editor
    before = left.saved()
    editor.open("firered_edit_fal")
    dialog = open_settings(editor)
    row = _row(dialog, left.hostile)
    row.get_by_role("button", name="Give up").click()
    expect(_question(editor).get_by_text("It is paid.")).to_be_visible()
    editor.screenshot("jobs_give_up")
    _question(editor).get_by_role("button", name="Cancel").click()
    expect(row).to_be_visible()

    row.get_by_role("button", name="Give up").click()
    _question(editor).get_by_role("button", name="Confirm").click()
    expect(row).to_have_count(0)
    expect(_row(dialog, left.short)).to_be_visible()
    assert left.saved() == before

    editor.open("firered_edit_fal")
    words = "1 edit on fal is paid and waits to be collected"
    expect(editor.page.get_by_role("alert").get_by_text(words)).to_be_visible()
    assert no_trouble(editor)


def test_nothing_is_announced_where_nothing_waits(left: Left) -> None:
    forget_all(data_folder(left.editor.comfyui.base))
    with left.editor.page.expect_response("**/firered/jobs") as asked:
        left.editor.open("firered_edit_fal")
    assert asked.value.json()["jobs"] == []
    open_settings(left.editor)
    assert left.editor.page.get_by_text("wait to be collected").count() == 0
    assert no_trouble(left.editor)


def test_settings_stand_where_the_server_takes_them_to_stand_and_keep_their_range(
    left: Left,
) -> None:
    editor = left.editor
    editor.open("firered_edit_fal")
    dialog = open_settings(editor)
    fields = {name: dialog.locator(f"[id='{name}']").locator("input") for name in DEFAULTS}
    assert {name: float(field.input_value()) for name, field in fields.items()} == DEFAULTS
    for name, typed, stored in (
        (WINDOW, "40", 40),
        (WINDOW, "900", 64),
        (LIMIT, "2.50", 2.5),
        (HOURS, "0", 1),
    ):
        fields[name].fill("")
        fields[name].press_sequentially(typed)
        fields[name].press("Tab")
        wait_until(partial(_is_stored, editor, name, stored))
    assert no_trouble(editor)


def _is_stored(editor: Editor, name: str, value: float) -> bool:
    return bool(editor.comfyui.get(f"/settings/{name}") == value)


def test_what_is_not_ready_cannot_be_collected_and_errors_are_shown_in_words(left: Left) -> None:
    editor = left.editor
    unready = {
        "key": "0" * 64,
        "prompt": "a prompt that is longer than its column is wide " * 20,
        "seed": 2**32 - 1,
        "state": "cancelling",
        "ready": False,
        "request_id": None,
        "ordered_at": 1_700_000_000.5,
        "cost": "unknown",
    }
    answers = [(200, {"jobs": [unready], "spent_today": 12.349}), (409, {"error": "No. Do this."})]

    def answer(route: Route) -> None:
        status, body = answers[0]
        route.fulfill(status=status, json=body)

    editor.page.route("**/firered/jobs", answer)
    editor.open("firered_edit_fal")
    dialog = open_settings(editor)
    expect(dialog.get_by_role("cell", name="cancelled, may finish all the same")).to_be_visible()
    expect(dialog.get_by_role("cell", name="unknown")).to_be_visible()
    expect(dialog.get_by_text("Spent today: $12.35")).to_be_visible()
    expect(dialog.get_by_role("button", name="Collect")).to_have_count(0)
    assert editor.page.get_by_text("wait to be collected").count() == 0
    editor.screenshot("jobs_unready")
    dialog.get_by_role("button", name="Give up").click()
    expect(_question(editor).get_by_text("still finish this edit and bill it")).to_be_visible()
    editor.screenshot("jobs_give_up_unfinished")
    _question(editor).get_by_role("button", name="Cancel").click()

    answers.pop(0)
    panel(dialog, "Jobs").get_by_role("button", name="Refresh").click()
    expect(dialog.get_by_role("alert")).to_have_text("No. Do this.")
    editor.screenshot("jobs_error")
