"""What ComfyUI makes of locales/: the texts it hands to its page, beside those of the nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from make_locales import ENGLISH, as_json, dotted, english

from support.comfyui import ComfyUI
from support.pack import ROOT


@pytest.fixture
def nodes(comfyui: ComfyUI) -> dict[str, Any]:
    """Our nodes, as ComfyUI describes them."""
    info = comfyui.get("/object_info")
    return {name: info[name] for name in info if name.startswith("FireRed")}


def test_comfyui_hands_out_what_the_pack_says_in_both_languages(comfyui: ComfyUI) -> None:
    given = comfyui.get("/i18n")
    for file in (ROOT / "locales").glob("*/*.json"):
        texts = json.loads(file.read_text(encoding="utf-8"))
        language = given[file.parent.name]
        for key, value in (texts if file.stem == "main" else {file.stem: texts}).items():
            assert value.items() <= language[key].items()


def test_english_is_what_the_nodes_say(nodes: dict[str, Any]) -> None:
    assert ENGLISH.read_text(encoding="utf-8") == as_json(english(nodes))


def test_figures_and_choices_are_the_same_in_chinese(nodes: dict[str, Any]) -> None:
    chinese = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name, node in nodes.items():
        texts = chinese[name]
        for key, text in _tooltips(node):
            assert _fixed(text) == _fixed(texts["inputs"][key]["tooltip"]), (name, key)
        for key, text in enumerate(node["output_tooltips"]):
            assert _figures(text) == _figures(texts["outputs"][str(key)]["tooltip"]), (name, key)
        assert _figures(node["description"]) == _figures(texts["description"]), name


def _tooltips(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for group in node["input"].values():
        yield from ((name, details["tooltip"]) for name, (_, details) in group.items())
    yield from dotted(node).items()


def _figures(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


CHOICES = r"\b(?:auto|bf16|fp8|int8|none|regular|high|cpu|gpu|png|jpeg|match image|square_hd)\b"


def _fixed(text: str) -> tuple[set[str], set[str]]:
    """What stands in both languages alike: figures, and the names of choices."""
    return _figures(text), set(re.findall(CHOICES, text, re.ASCII))
