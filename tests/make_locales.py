"""Makes locales/en/nodeDefs.json: the English texts that ComfyUI does not find in the nodes.

For all but the inputs with a dot in their name (``size.width``, ``images.image_1``) it does, and
nothing is said twice. Run it after a change to their tooltips: ``python tests/make_locales.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.comfyui import install_pack, running_comfyui
from support.pack import ROOT

ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        install_pack(Path(folder))
        with running_comfyui(Path(folder)) as comfyui:
            ENGLISH.write_text(as_json(english(comfyui.get("/object_info"))), encoding="utf-8")
    sys.stdout.write(f"{ENGLISH.relative_to(ROOT)}\n")
    return 0


def english(info: dict[str, Any]) -> dict[str, Any]:
    """What the file holds for the nodes that ``info``, ComfyUI's own description, lists."""
    nodes = {name: dotted(info[name]) for name in sorted(info) if name.startswith("FireRed")}
    return {
        name: {"inputs": {key: {"tooltip": text} for key, text in inputs.items()}}
        for name, inputs in nodes.items()
        if inputs
    }


def dotted(node: dict[str, Any]) -> dict[str, str]:
    """Tooltips of a node's inputs with a dot in their name, by what locales call them."""
    inputs = [item for group in node["input"].values() for item in group.items()]
    return {
        f"{parent}_{name}": details["tooltip"]
        for parent, (_, options) in inputs
        for name, (_, details) in _below(options)
    }


def _below(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The inputs below one that grows, or that brings others along with a choice."""
    if template := options.get("template"):
        (single,) = (spec for group in template["input"].values() for spec in group.values())
        yield from ((name, single) for name in template["names"])
    for choice in options.get("options", []):
        if isinstance(choice, dict):
            yield from (item for group in choice["inputs"].values() for item in group.items())


def as_json(nodes: dict[str, Any]) -> str:
    return json.dumps(nodes, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
