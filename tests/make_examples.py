"""Makes the example workflows, their pictures and the blueprints, on ComfyUI's own page."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.browser import Editor, open_editor, running_browser
from support.comfyui import ComfyUI, comfyui_source, install_pack, running_comfyui
from support.examples import BATCH_FOLDER, BLUEPRINTS, EXAMPLES, PICTURE
from support.graphs import THUMBNAIL_BYTES, Blueprint, Example, draw, fold, pretty
from support.model_files import list_model_files
from support.pack import ROOT

WORKFLOWS = ROOT / "example_workflows"
SUBGRAPHS = ROOT / "subgraphs"


def main() -> int:
    names = [made.name for made in (*EXAMPLES, *BLUEPRINTS)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(names)}; or all")
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"There is no {', '.join(sorted(unknown))}.")
    for folder in (WORKFLOWS / "api", SUBGRAPHS):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="firered-examples-") as folder:
        base = furnish(Path(folder))
        with running_comfyui(base) as comfyui:
            for example in (one for one in EXAMPLES if one.name in chosen):
                make_example(comfyui, example)
            for blueprint in (one for one in BLUEPRINTS if one.name in chosen):
                make_blueprint(comfyui, blueprint)
    return 0


def furnish(base: Path) -> Path:
    """Folders in which every file that an example names is listed, though most are empty."""
    install_pack(base)
    list_model_files(base)
    (base / "input" / BATCH_FOLDER).mkdir(parents=True)
    example = comfyui_source() / "input" / PICTURE
    (base / "input" / PICTURE).write_bytes(example.read_bytes())
    return base


@contextmanager
def empty_editor(comfyui: ComfyUI) -> Iterator[Editor]:
    """The page in its classic form with nothing on it but the canvas."""
    with running_browser() as browser, open_editor(browser, comfyui, "classic") as editor:
        editor.open_empty()
        editor.page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
        yield editor


def make_example(comfyui: ComfyUI, example: Example) -> None:
    with empty_editor(comfyui) as editor:
        drawn = draw(editor, example)
    _write(WORKFLOWS / f"{example.name}.json", pretty(drawn.workflow))
    _write(WORKFLOWS / "api" / f"{example.name}.json", pretty(drawn.api))
    if len(drawn.thumbnail) > THUMBNAIL_BYTES:
        raise ValueError(f"The picture of {example.name} has {len(drawn.thumbnail)} bytes.")
    (WORKFLOWS / f"{example.name}.jpg").write_bytes(drawn.thumbnail)


def make_blueprint(comfyui: ComfyUI, blueprint: Blueprint) -> None:
    with empty_editor(comfyui) as editor:
        _write(SUBGRAPHS / f"{blueprint.name}.json", pretty(fold(editor, blueprint)))


def _write(file: Path, text: str) -> None:
    file.write_text(f"{text}\n", encoding="utf-8")
    sys.stdout.write(f"{file.relative_to(ROOT)}\n")


if __name__ == "__main__":
    raise SystemExit(main())
