"""The pack's own settings in ComfyUI's Settings dialog."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Route, expect

from support.browser import Editor
from support.comfyui import wait_until
from support.kinds import MakePhoto
from support.orphans import Orphan, data_folder, forget_all, leave_finished
from support.settings_page import no_trouble, open_settings, panel

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

CONSENT = "FireRed.AllowDownloads"

CACHE = "/firered/cache"

seeds = itertools.count(1)
"""The same edit can be ordered only once."""


@pytest.fixture
def fresh(editor: Editor) -> Iterator[Editor]:
    """An editor whose user has not consented to anything; put back afterwards."""
    editor.comfyui.post("/settings", {CONSENT: False}).raise_for_status()
    yield editor
    editor.comfyui.post("/settings", {CONSENT: False}).raise_for_status()


def _open(editor: Editor) -> Locator:
    """Our page of the Settings dialog."""
    editor.open("firered_edit_fal")
    return open_settings(editor)


def _storage(editor: Editor) -> Locator:
    return panel(_open(editor), "Storage")


def test_consent_to_downloads_is_a_switch_that_is_off_until_it_is_clicked(fresh: Editor) -> None:
    dialog = _open(fresh)
    switch = dialog.locator(f"[id='{CONSENT}']").get_by_role("switch")
    fresh.screenshot("settings")
    assert not switch.is_checked()
    switch.click()
    wait_until(lambda: fresh.comfyui.get(f"/settings/{CONSENT}") is True)
    fresh.screenshot("settings_allowed")
    assert switch.is_checked()
    assert no_trouble(fresh)


def test_kept_pictures_are_counted_and_cleared_after_a_question_but_never_what_waits(
    editor: Editor, photo: MakePhoto
) -> None:
    folder = data_folder(editor.comfyui.base)
    collected, waits = Orphan("collected", next(seeds)), Orphan("waits", next(seeds))
    leave_finished(folder, collected, [photo(300, 200)])
    forget_all(folder)
    leave_finished(folder, waits, [photo(60, 40), photo(60, 40)])
    storage = _storage(editor)
    storage.scroll_into_view_if_needed()
    expect(storage.get_by_text("Waiting to be collected: 2 pictures, ")).to_be_visible()
    expect(storage.get_by_text("frees memory forgets it")).to_be_visible()
    editor.screenshot("storage")

    clear = storage.get_by_role("button", name="Clear")
    clear.click()
    question = editor.page.get_by_role("dialog").filter(has_text="Delete the delivered pictures?")
    expect(question.get_by_text("is sent to fal and billed anew")).to_be_visible()
    editor.screenshot("storage_clear")
    question.get_by_role("button", name="Cancel").click()
    assert list(folder.glob(f"results/*/{collected.key}*"))

    clear.click()
    question.get_by_role("button", name="Delete").click()
    expect(storage.get_by_text("Delivered: 0 pictures, 0 B.")).to_be_visible()
    expect(storage.get_by_text("Waiting to be collected: 2 pictures, ")).to_be_visible()
    expect(clear).to_be_disabled()
    assert not list(folder.glob(f"results/*/{collected.key}*"))
    assert len(list(folder.glob(f"results/*/{waits.key}*"))) == 2
    forget_all(folder)


def test_a_size_is_said_in_a_unit_that_fits_it(editor: Editor) -> None:
    answers = [
        {"delivered": (1, 1), "waiting": (2, 999), "records": (1, 1000)},
        {"delivered": (0, 999_950), "waiting": (12, 12_345_678), "records": (9, 2 * 1024**3)},
    ]
    said = [
        ["Delivered: 1 picture, 1 B.", "Waiting to be collected: 2 pictures, 999 B."]
        + ["Journal: 1.0 kB, with 1 upload remembered."],
        ["Delivered: 0 pictures, 1000 kB.", "Waiting to be collected: 12 pictures, 12 MB."]
        + ["Journal: 2.1 GB, with 9 uploads remembered."],
    ]
    asked: list[str] = []

    def answer(route: Route) -> None:
        parts = answers[min(len(asked), len(answers) - 1)]
        asked.append(route.request.url)
        route.fulfill(json={name: {"count": n, "bytes": size} for name, (n, size) in parts.items()})

    editor.page.route(f"**{CACHE}", answer)
    storage = _storage(editor)
    for lines in said:
        expect(storage.locator("p")).to_have_text([*lines, re.compile("in memory only")])
        storage.get_by_role("button", name="Refresh").click()


def test_where_the_server_refuses_its_words_are_shown(editor: Editor) -> None:
    editor.page.route(
        f"**{CACHE}", lambda route: route.fulfill(status=409, json={"error": "No. Do this."})
    )
    storage = _storage(editor)
    expect(storage.get_by_role("alert")).to_have_text("No. Do this.")
    editor.page.unroute(f"**{CACHE}")
    storage.get_by_role("button", name="Refresh").click()
    expect(storage.get_by_text("Waiting to be collected")).to_be_visible()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_panels_speak_chinese(editor: Editor, photo: MakePhoto, theme: str) -> None:
    folder = data_folder(editor.comfyui.base)
    leave_finished(folder, Orphan("把背景变成夜晚", next(seeds)), [photo(60, 40)])
    editor.prefer("zh", theme)
    dialog = _open(editor)
    expect(dialog.get_by_role("cell", name="可领取")).to_be_visible()
    expect(dialog.get_by_role("button", name="测试密钥")).to_be_visible()
    editor.screenshot(f"settings_chinese_{theme}")
    storage = panel(dialog, "Storage")
    storage.scroll_into_view_if_needed()
    expect(storage.get_by_text("等待领取：1 张图像")).to_be_visible()
    editor.screenshot(f"storage_chinese_{theme}")
    forget_all(folder)
