"""The pack's own settings in ComfyUI's Settings dialog."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.browser import Editor
from support.comfyui import wait_until

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

CONSENT = "FireRed.AllowDownloads"


@pytest.fixture
def fresh(editor: Editor) -> Iterator[Editor]:
    """An editor whose user has not consented to anything; put back afterwards."""
    editor.comfyui.post("/settings", {CONSENT: False}).raise_for_status()
    yield editor
    editor.comfyui.post("/settings", {CONSENT: False}).raise_for_status()


def test_consent_to_downloads_is_a_switch_that_is_off_until_it_is_clicked(fresh: Editor) -> None:
    fresh.open("firered_edit_local")
    fresh.page.evaluate("app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    dialog = fresh.page.get_by_role("dialog")
    dialog.get_by_text("FireRed", exact=True).click()
    switch = dialog.locator(f"[id='{CONSENT}']").get_by_role("switch")
    fresh.screenshot("settings")
    assert not switch.is_checked()
    switch.click()
    wait_until(lambda: fresh.comfyui.get(f"/settings/{CONSENT}") is True)
    fresh.screenshot("settings_allowed")
    assert switch.is_checked()
    assert [error for error in fresh.errors if "firered" in error.lower()] == []
