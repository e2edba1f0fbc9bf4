"""One real browser for all browser tests, a fresh page for each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from support.browser import Editor, NoBrowserError, open_editor, running_browser
from support.comfyui import ComfyUI


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; without one the tests are skipped, unless FIRERED_REQUIRE_BROWSER is 1."""
    try:
        with running_browser() as started:
            yield started
    except NoBrowserError as error:
        if os.environ.get("FIRERED_REQUIRE_BROWSER") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture
def editor(browser: Browser, comfyui: ComfyUI, request: pytest.FixtureRequest) -> Iterator[Editor]:
    """A fresh editor; parametrised indirectly with a renderer, or else the classic one."""
    renderer = getattr(request, "param", "classic")
    with open_editor(browser, comfyui, renderer) as opened:
        yield opened
