"""A real browser on ComfyUI's real frontend; it reaches nothing but this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    Request,
    ViewportSize,
    sync_playwright,
)

from support.comfyui import PACK_FOLDER, RUN_TIMEOUT_S, ComfyUI
from support.pack import ROOT

SCREENSHOTS = ROOT / "test_output"

Renderer = Literal["classic", "nodes 2.0"]
RENDERERS: tuple[Renderer, ...] = get_args(Renderer)

in_both_renderers = pytest.mark.parametrize("editor", RENDERERS, indirect=True)
"""For tests of the fixture ``editor``."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Nothing beyond this machine has an address: asked for, it is counted below and not found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_OUTSIDE = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
_VIEWPORT = ViewportSize(width=1600, height=1000)


class NoBrowserError(RuntimeError):
    """No Chromium was found."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium without a window; raises ``NoBrowserError`` where there is none."""
    with sync_playwright() as playwright:
        options = [*_OPTIONS, "--no-sandbox"] if _is_root() else _OPTIONS
        browser = playwright.chromium.launch(
            executable_path=_find_chromium(playwright), args=options, headless=True
        )
        try:
            yield browser
        finally:
            browser.close()


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _find_chromium(playwright: Playwright) -> str:
    """The browser that ``FIRERED_CHROMIUM`` names, else playwright's own, else the system's."""
    if chosen := os.environ.get("FIRERED_CHROMIUM"):
        return chosen
    for name in (playwright.chromium.executable_path, *_NAMES):
        if found := shutil.which(name):
            return found
    raise NoBrowserError("There is no Chromium: install one, or name it as FIRERED_CHROMIUM.")


@contextmanager
def open_editor(browser: Browser, comfyui: ComfyUI, renderer: Renderer) -> Iterator[Editor]:
    """A fresh page with nothing remembered, not yet on any address."""
    comfyui.post(
        "/settings",
        {
            "Comfy.VueNodes.Enabled": renderer == "nodes 2.0",
            "Comfy.Locale": "en",
            "Comfy.ColorPalette": "dark",
            # On a first visit the editor starts empty, without its own default workflow.
            "Comfy.TutorialCompleted": False,
            # Both are remembered from page to page and would cover a part of the graph.
            "Comfy.Minimap.Visible": False,
            "Comfy.RightSidePanel.IsOpen": False,
        },
    ).raise_for_status()
    with browser.new_context(viewport=_VIEWPORT) as context:
        editor = Editor(context.new_page(), comfyui, renderer)
        context.on("request", editor.count)
        context.on("console", editor.hear)
        context.on("weberror", lambda error: editor.errors.append(str(error.error.stack)))
        yield editor


@dataclass
class Editor:
    """ComfyUI's graph editor in one page of the browser."""

    page: Page
    comfyui: ComfyUI
    renderer: Renderer
    outside: list[str] = field(default_factory=list)
    """Addresses beyond loopback that the page asked for, in vain."""
    errors: list[str] = field(default_factory=list)
    """What the console showed as an error, ComfyUI's own included."""

    def count(self, request: Request) -> None:
        if _OUTSIDE.match(request.url):
            self.outside.append(request.url)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def prefer(self, language: str, palette: str = "dark") -> None:
        """What pages opened from here on are read in; the next editor's are in English, dark."""
        looks = {"Comfy.Locale": language, "Comfy.ColorPalette": palette}
        self.comfyui.post("/settings", looks).raise_for_status()

    def open(self, example: str) -> None:
        """Open a shipped workflow as a click on its card among the templates does."""
        self.page.goto(f"{self.comfyui.url}/?template={example}&source={PACK_FOLDER}")
        self.page.wait_for_function(
            "name => window.app?.extensionManager?.workflow.activeWorkflow?.filename === name"
            " && app.graph.nodes.length > 0",
            arg=example,
        )
        self.page.locator(".p-blockui-mask").wait_for(state="hidden")

    def open_empty(self) -> None:
        """A new workflow without nodes."""
        self.open("firered_edit_fal")
        # Not by its button: that is named in the page's language, and the pointer would stay there.
        self.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
        self.page.wait_for_function("app.graph.nodes.length === 0")

    def place(self, title: str, x: int, y: int, *, blueprint: bool = False) -> list[str]:
        """Put a node at a free place through node search; the lines the search shows about it.

        A ``blueprint`` may be called like a node and is marked as one.
        """
        # Not by a double click: where drawing is slow it comes out as two clicks.
        self.page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("combobox").fill(title)
        found = dialog.get_by_role("option").filter(has_text=title)
        mark = "Subgraph Blueprints"
        option = found.filter(**{"has_text" if blueprint else "has_not_text": mark}).first
        said = option.inner_text().splitlines()
        option.click()
        dialog.wait_for(state="hidden")
        # The node hangs on the pointer until it is put down.
        self.page.mouse.click(x, y)
        self.page.wait_for_function(
            "title => app.graph.nodes.some(node => node.title === title && !node.flags.ghost)",
            arg=title,
        )
        return said

    def on_node(self, node_type: str, function: str, argument: Any = None) -> Any:
        """Evaluate a JavaScript ``function`` of the first node of a type and ``argument``."""
        find = "app.graph.nodes.find(node => node.type === type)"
        script = f"([type, argument]) => ({function})({find}, argument)"
        return self.page.evaluate(script, [node_type, argument])

    def on_all(self, function: str) -> list[Any]:
        """Evaluate a JavaScript ``function`` of every node."""
        return list(self.page.evaluate(f"app.graph.nodes.map({function})"))

    def set(self, node_type: str, **values: Any) -> None:
        """Change widgets of a node as typing into them does, and wait for the next picture."""
        self.on_node(
            node_type,
            """async (node, values) => {
                for (const [name, value] of Object.entries(values)) {
                    const widget = node.widgets.find(widget => widget.name === name);
                    widget.value = value;
                    widget.callback?.(value);
                }
                for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
            }""",
            values,
        )

    def element(self, node_type: str) -> Locator:
        """A node's own part of the page; only Nodes 2.0 has one."""
        key = self.on_node(node_type, "node => node.id")
        return self.page.locator(f"[data-node-id='{key}']")

    def labels(self, node_type: str) -> list[str]:
        """The names of a node's fields, as they are shown."""
        if self.renderer == "nodes 2.0":
            labels = self.element(node_type).get_by_test_id("widget-layout-field-label")
            return labels.all_inner_texts()
        return list(self.on_node(node_type, "node => node.widgets.map(w => w.label ?? w.name)"))

    def open_menu(self, node_type: str) -> None:
        """Open a node's own menu by a right click on its title."""
        place = "node => app.canvasPosToClientPos([node.pos[0] + 60, node.pos[1] - 15])"
        x, y = self.on_node(node_type, place)
        self.page.mouse.click(x, y, button="right")

    def menu_item(self, name: str) -> Locator:
        """An item of the menu that is open."""
        if self.renderer == "nodes 2.0":
            return self.page.get_by_role("menuitem", name=name, exact=True)
        return self.page.locator(".litemenu-entry").get_by_text(name, exact=True)

    def choose(self, node_type: str, *path: str) -> None:
        """Click an item of a node's menu; what stands before it in ``path`` are submenus."""
        self.open_menu(node_type)
        self.pick(*path)

    def pick(self, *path: str) -> None:
        """The same in the menu that is open."""
        for name in path[:-1]:
            item = self.menu_item(name)
            item.hover() if self.renderer == "nodes 2.0" else item.click()
        self.menu_item(path[-1]).click()

    def run(self) -> None:
        """Press Run."""
        self.page.get_by_test_id("queue-button").click()

    def shown_picture(self, node_type: str) -> tuple[int, int]:
        """Width and height of the picture on a node, once there is one."""
        size = self.page.wait_for_function(
            """type => {
                const picture = app.graph.nodes.find(node => node.type === type).imgs?.[0];
                return picture?.complete && [picture.naturalWidth, picture.naturalHeight];
            }""",
            arg=node_type,
            timeout=RUN_TIMEOUT_S * 1000,
        )
        width, height = size.json_value()
        return width, height

    def shown_images(self, node_type: str) -> list[dict[str, str]]:
        """What a node has to show, once it has something: files of ComfyUI's folders."""
        images = self.page.wait_for_function(
            """type => {
                const { id } = app.graph.nodes.find(node => node.type === type);
                return app.nodeOutputs[id]?.images;
            }""",
            arg=node_type,
            timeout=RUN_TIMEOUT_S * 1000,
        )
        return list(images.json_value())

    def api_prompt(self) -> dict[str, Any]:
        """What Run would send, without the titles that only people read."""
        prompt = self._json("(await app.graphToPrompt()).output")
        return {
            key: {name: value for name, value in node.items() if name != "_meta"}
            for key, node in prompt.items()
        }

    def saved(self) -> dict[str, Any]:
        """The workflow as Save writes it, but for the part of it that is in view."""
        workflow = self._json("app.graph.serialize()")
        del workflow["extra"]["ds"]
        return workflow

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a saved workflow."""
        self.page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)

    def _json(self, expression: str) -> dict[str, Any]:
        # Playwright hands undefined over as None; JSON leaves it out, as a saved file does.
        text = self.page.evaluate(f"async () => JSON.stringify({expression})")
        return dict(json.loads(text))

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page for people to look at."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.wait_for_load_state("networkidle")
        file = f"{name}_{self.renderer}.png".replace(" ", "_")
        self.page.screenshot(path=SCREENSHOTS / file, animations="disabled")
