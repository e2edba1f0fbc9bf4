"""Makes the README's pictures of ComfyUI's page: the settings, and a compare of a region edit.

Run it after a change to what they show: ``python tests/make_readme_pictures.py``. The photograph is
scikit-image's cat by Stefan van der Walt, dedicated to the public domain. The edit is a stand-in by
the test server, which makes blue what is yellow: all around it is the pack's and ComfyUI's own.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator
from skimage import data

from doubles.fal_server import FalServer
from support.browser import Editor, open_editor, running_browser
from support.comfyui import RUN_TIMEOUT_S, ComfyUI, running_comfyui
from support.pack import ROOT, load_pack
from support.settings_page import open_settings, panel

load_pack()

from support.blobs import disc  # noqa: E402 - needs the pack
from support.server_fixtures import furnish  # noqa: E402

DOCS = ROOT / "web" / "docs"
WIDTH = 1024
QUALITY = 86

CAT = "cat.png"
EYES = {(171.0, 115.0): 32.0, (318.0, 136.0): 25.0}
"""Centre and radius in pixels."""

YELLOW = 34.0
"""Degrees of hue; the fur has fewer."""

KEY = "made-up-id:made-up-secret"

BUILD = """cat => {
    const place = (type, left, top, width, height) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = [left, top];
        node.setSize([width, Math.max(height, node.computeSize()[1])]);
        return node;
    };
    const photo = place("LoadImage", 0, 0, 260, 330);
    const crop = place("FireRedCropRegion", 300, 0, 280, 200);
    const edit = place("FireRedEditFal", 620, 0, 330, 560);
    const paste = place("FireRedPasteRegion", 300, 360, 280, 130);
    const compare = place("ImageCompare", 990, 0, 620, 560);
    const image = photo.widgets.find(widget => widget.name === "image");
    image.value = cat;
    image.callback?.(cat);
    const set = (node, name, value) => {
        node.widgets.find(widget => widget.name === name).value = value;
    };
    set(edit, "prompt", "Turn the eyes blue, keep everything else");
    set(edit, "seed", 49);
    set(crop, "grow", 2);
    set(crop, "feather", 6);
    photo.connect(0, crop, 0);
    photo.connect(1, crop, 1);
    crop.connect(0, edit, 0);
    edit.connect(0, paste, 0);
    crop.connect(1, paste, 1);
    photo.connect(0, compare, 0);
    paste.connect(0, compare, 1);
    app.canvas.ds.scale = 0.9;
    app.canvas.ds.offset = [75, 95];
    app.canvas.setDirty(true, true);
}"""


def main() -> int:
    with _page() as (browser, comfyui):
        with open_editor(browser, comfyui, "nodes 2.0") as editor:
            _save(_compare(editor), "compare")
        with open_editor(browser, comfyui, "classic") as editor:
            _save(_settings(editor), "settings")
    return 0


def _save(shot: bytes, name: str) -> None:
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    file = DOCS / f"{name}.jpg"
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.save(file, quality=QUALITY, optimize=True)
    sys.stdout.write(f"{file.relative_to(ROOT)}: {WIDTH}x{height}\n")


def _compare(editor: Editor) -> bytes:
    """A region edit after its run, the slider over one eye."""
    editor.open_empty()
    editor.page.evaluate(BUILD, CAT)
    editor.run()
    pictures = editor.element("ImageCompare").locator("img")
    pictures.nth(1).wait_for(timeout=RUN_TIMEOUT_S * 1000)
    # Nothing but the graph: the menus would lie over it.
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    editor.page.wait_for_load_state("networkidle")
    editor.page.wait_for_timeout(3_000)
    _hover(pictures.first)
    clip: Any = {"x": 40, "y": 30, "width": 1520, "height": 640}
    return editor.page.screenshot(clip=clip, animations="disabled")


def _hover(picture: Locator) -> None:
    """Put the slider of a compare between the cat's eyes."""
    box = picture.bounding_box()
    assert box is not None
    picture.page.mouse.move(box["x"] + 0.54 * box["width"], box["y"] + 0.7 * box["height"])
    picture.page.wait_for_timeout(500)


def _settings(editor: Editor) -> bytes:
    editor.open("firered_edit_fal")
    dialog = open_settings(editor)
    key = panel(dialog, "Key")
    key.locator("input").fill(KEY)
    key.get_by_role("button", name="Save").click()
    key.get_by_text("Saved.").wait_for()
    return dialog.screenshot(animations="disabled")


def _blue(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
    """The first reference, red and blue exchanged where it is yellow."""
    size = arguments["image_size"]["width"], arguments["image_size"]["height"]
    picture = references[0].resize(size, Image.Resampling.LANCZOS)
    hue = np.asarray(picture.convert("HSV"))[..., :1] * (360 / 255)
    yellow = np.clip((hue - YELLOW) / 6, 0, 1)
    colours = np.asarray(picture)
    changed = colours * (1 - yellow) + colours[..., ::-1] * yellow
    return [Image.fromarray(changed.astype(np.uint8))] * arguments["num_images"]


def _cat_with_mask() -> Image.Image:
    """What is painted in the mask editor is transparent in the file."""
    cat = data.chelsea()
    height, width = cat.shape[:2]
    painted = sum(disc(width, height, radius, eye).numpy() for eye, radius in EYES.items())
    alpha = (255 * (1 - np.clip(painted, 0, 1))).astype(np.uint8)
    return Image.fromarray(np.dstack([cat, alpha]))


@contextmanager
def _page() -> Iterator[tuple[Browser, ComfyUI]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_browser() as browser,
        FalServer(key=KEY, runner=_blue) as fal,
    ):
        base = furnish(Path(folder))
        _cat_with_mask().save(base / "input" / CAT)
        # The compare comes first: it needs the key that the settings then are to save.
        (base / "user" / "__firered").mkdir(parents=True)
        (base / "user" / "__firered" / "fal_key").write_text(KEY)
        with running_comfyui(base, environ={**fal.environment, "FAL_KEY": ""}) as comfyui:
            yield browser, comfyui


if __name__ == "__main__":
    raise SystemExit(main())
