"""Settings > FireRed in the browser."""

from __future__ import annotations

from playwright.sync_api import Locator

from support.browser import Editor


def open_settings(editor: Editor) -> Locator:
    """Our page of the Settings dialog, over an open workflow."""
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("FireRed", exact=True).click()
    return dialog


def panel(dialog: Locator, setting: str) -> Locator:
    """The part of that page that is one setting's own."""
    return dialog.locator(f"[id='FireRed.{setting}']")


def no_trouble(editor: Editor) -> bool:
    """Whether the console tells of nothing amiss with the pack."""
    return not [error for error in editor.errors if "firered" in error.lower()]
