"""Makes the pictures of the help pages: what the nodes do to photographs, and graphs as ComfyUI
draws them. Run it after a change to what they show: ``python tests/make_help_pictures.py``.

The photographs come with scikit-image and are dedicated to the public domain: a cat by Stefan van
der Walt, a cup by Rachel Michetti, a rocket by SpaceX, the deep sky by NASA and ESA.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser
from skimage import data

from support.pack import ROOT, load_pack

load_pack()

from firered_edit.pipeline.drift import align, measure  # noqa: E402 - needs the pack
from firered_edit.pipeline.images import Pixels, Reference, to_tensor, to_uint8  # noqa: E402
from firered_edit.pipeline.region import Region, crop_region, paste_region  # noqa: E402
from firered_edit.pipeline.stitching import stitch  # noqa: E402
from support.blobs import disc  # noqa: E402
from support.browser import Editor, open_editor, running_browser  # noqa: E402
from support.comfyui import ComfyUI, running_comfyui  # noqa: E402
from support.model_files import list_model_files  # noqa: E402
from support.server_fixtures import furnish  # noqa: E402
from support.warps import warped  # noqa: E402

DOCS = ROOT / "web" / "docs"
WIDTH = 800
"""Over twice that of the help panel at first: it can be drawn wider, and screens are fine."""

GAP = 8
QUALITY = 85


def main() -> int:
    for name, draw in PICTURES.items():
        _save(draw(), name)
    with _page() as (browser, comfyui):
        for locale in ("en", "zh"):
            for name, graph in GRAPHS.items():
                with open_editor(browser, comfyui, "classic") as editor:
                    editor.prefer(locale)
                    _save(_drawn(editor, graph, PROMPTS[locale]), f"{name}.{locale}")
    return 0


def _save(picture: Image.Image, name: str) -> None:
    file = DOCS / f"{name}.jpg"
    picture.save(file, quality=QUALITY, optimize=True)
    sys.stdout.write(f"{file.relative_to(ROOT)}: {picture.width}x{picture.height}\n")


# What the nodes do -------------------------------------------------------------------------------

EYE = (171.0, 116.0)
EYE_RADIUS = 38.0


def _region() -> tuple[Pixels, Region]:
    """The cat, and the crop around one of its eyes."""
    cat: Pixels = data.chelsea()
    height, width = cat.shape[:2]
    return cat, crop_region(to_tensor(cat)[None], disc(width, height, EYE_RADIUS, EYE), grow=8)


def crop_picture() -> Image.Image:
    cat, region = _region()
    painted = disc(cat.shape[1], cat.shape[0], EYE_RADIUS, EYE).numpy()[..., None]
    marked = Image.fromarray((cat * (1 - 0.5 * painted) + (128, 0, 0) * painted).astype(np.uint8))
    scale = 3
    marked = marked.resize((marked.width * scale, marked.height * scale), Image.Resampling.LANCZOS)
    frame = region.frame
    left, top = frame.left, frame.top
    box = (left, top, left + frame.width, top + frame.height)
    ImageDraw.Draw(marked).rectangle([scale * side for side in box], outline="white", width=6)
    crop = Image.fromarray(to_uint8("crop", region.crop))
    return _side_by_side(marked, crop)


def paste_picture() -> Image.Image:
    """A blue eye, made by exchanging red and blue, in a crop that came back too warm."""
    _, region = _region()
    height, width = region.crop.shape[:2]
    scale = region.frame.scale
    centre = ((EYE[0] - region.frame.left) * scale, (EYE[1] - region.frame.top) * scale)
    eye = disc(width, height, 0.8 * EYE_RADIUS * scale, centre)[..., None]
    blue = region.crop.flip(-1) * eye + region.crop * (1 - eye)
    edit = (blue * torch.tensor([1.12, 1.0, 0.82])).clamp(0, 1)
    pasted = (paste_region(edit[None], region, match).images[0] for match in (False, True))
    return _side_by_side(*(_around_the_eye(to_uint8("pasted", each)) for each in pasted))


def _around_the_eye(pixels: Pixels) -> Image.Image:
    x, y, half = *EYE, 100
    picture = Image.fromarray(pixels).crop((x - half, y - half, x + half, y + half))
    return picture.resize((600, 600), Image.Resampling.LANCZOS)


def drift_picture() -> Image.Image:
    """Eight times the difference of a moved photograph to its source, and after moving it back."""
    before = (data.chelsea() / 255).astype(np.float32)
    after = warped(before, (3.4, 2.2))
    back = align(after, measure(before, after, None))
    return _side_by_side(*(_difference(before, each) for each in (after, back)))


def _difference(one: np.ndarray, other: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(np.abs(one - other) * 8, 0, 1) * 255).astype(np.uint8))


def stitch_picture() -> Image.Image:
    """Five pictures in a row, and below them the composites they share."""
    pictures = [
        _numbered(pixels, number)
        for number, pixels in enumerate(
            (
                data.chelsea(),
                data.coffee()[:, 50:500],
                np.rot90(data.coffee(), 3),
                data.rocket()[:, 240:400],
                data.hubble_deep_field(),
            ),
            2,
        )
    ]
    references = [Reference(pixels) for pixels in (data.chelsea(), *pictures)]
    _, *composites = stitch(references, "", {}, background=True).pixels
    row = _side_by_side(*map(Image.fromarray, pictures))
    return _stacked(row, _side_by_side(*map(Image.fromarray, composites)))


def _numbered(pixels: Pixels, number: int) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    side = min(picture.size) // 3
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, side, side), fill="white")
    font = ImageFont.load_default(size=0.9 * side)
    draw.text((side / 2, side / 2), str(number), fill="black", font=font, anchor="mm")
    return np.asarray(picture)


def _side_by_side(*pictures: Image.Image) -> Image.Image:
    """All of one height, ``WIDTH`` together."""
    aspects = [picture.width / picture.height for picture in pictures]
    height = (WIDTH - GAP * (len(pictures) - 1)) / sum(aspects)
    sheet = Image.new("RGB", (WIDTH, round(height)), "white")
    left = 0.0
    for picture, aspect in zip(pictures, aspects, strict=True):
        size = (round(height * aspect), round(height))
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (round(left), 0))
        left += height * aspect + GAP
    return sheet


def _stacked(*pictures: Image.Image) -> Image.Image:
    heights = [picture.height for picture in pictures]
    sheet = Image.new("RGB", (WIDTH, sum(heights) + 3 * GAP * (len(pictures) - 1)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + 3 * GAP
    return sheet


PICTURES = {
    "crop_region": crop_picture,
    "paste_region": paste_picture,
    "measure_drift": drift_picture,
    "stitch_references": stitch_picture,
}

# Graphs as they are drawn ------------------------------------------------------------------------

PROMPTS = {"en": "Turn the eyes blue, keep everything else", "zh": "把眼睛变成蓝色，其他保持不变"}
CAT = "cat.png"

Graph = dict[str, tuple[tuple[int, int, int, int], list[tuple[str, int, int]]]]
"""Of each node class: left, top, width, height; and links as (class, output, input socket)."""

# Narrow: the panel is less than 300 pixels wide at first.
_PHOTO = ((0, 0, 190, 290), list[tuple[str, int, int]]())

GRAPHS: dict[str, Graph] = {
    "edit_local": {
        "LoadImage": _PHOTO,
        "FireRedLoadModel": ((0, 380, 190, 160), []),
        "FireRedEdit": ((220, 0, 240, 540), [("FireRedLoadModel", 0, 0), ("LoadImage", 0, 1)]),
    },
    "edit_fal": {
        "LoadImage": _PHOTO,
        "FireRedEditFal": ((220, 0, 240, 570), [("LoadImage", 0, 0)]),
    },
    "load_model": {"FireRedLoadModel": ((0, 0, 400, 160), [])},
    "load_lora": {
        "FireRedLoadModel": ((0, 0, 230, 160), []),
        "FireRedLoadLora": ((200, 220, 260, 110), [("FireRedLoadModel", 0, 0)]),
    },
}

BUILD = """([graph, prompt, cat]) => {
    const nodes = {};
    for (const [type, [[left, top, width, height], links]] of Object.entries(graph)) {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        nodes[type] = node;
        node.pos = [left, top];
        for (const widget of node.widgets) {
            if (widget.name === "prompt") widget.value = prompt;
            if (widget.name === "image") { widget.value = cat; widget.callback?.(cat); }
        }
        for (const [source, slot, socket] of links) nodes[source].connect(slot, node, socket);
        node.setSize([width, Math.max(height, node.computeSize()[1])]);
    }
}"""

FRAME = """() => {
    const edges = app.graph.nodes.map(({pos: [x, y], size: [w, h]}) => [x, y - 55, x + w, y + h]);
    const [left, top] = [0, 1].map((side) => Math.min(...edges.map((edge) => edge[side])) - 15);
    const [right, bottom] = [2, 3].map((side) => Math.max(...edges.map((edge) => edge[side])) + 15);
    const scale = Math.min(1400 / (right - left), 860 / (bottom - top), 2);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [100 / scale - left, 70 / scale - top];
    app.canvas.setDirty(true, true);
    return { x: 100, y: 70, width: scale * (right - left), height: scale * (bottom - top) };
}"""


def _drawn(editor: Editor, graph: Graph, prompt: str) -> Image.Image:
    editor.open_empty()
    editor.page.evaluate(BUILD, [graph, prompt, CAT])
    # Nothing but the graph: the menus would lie over it.
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    editor.page.wait_for_load_state("networkidle")
    clip: Any = editor.page.evaluate(FRAME)
    editor.page.wait_for_timeout(500)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        editor.page.screenshot(path=file.name, clip=clip, animations="disabled")
        return Image.open(file.name).convert("RGB")


@contextmanager
def _page() -> Iterator[tuple[Browser, ComfyUI]]:
    """A browser, and a ComfyUI that lists the model's files; they are empty and never loaded."""
    with tempfile.TemporaryDirectory() as folder, running_browser() as browser:
        base = furnish(Path(folder))
        list_model_files(base)
        Image.fromarray(data.chelsea()).save(base / "input" / CAT)
        with running_comfyui(base, environ={"FAL_KEY": "none"}) as comfyui:
            yield browser, comfyui


if __name__ == "__main__":
    raise SystemExit(main())
