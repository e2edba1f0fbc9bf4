"""The Chinese texts of nodes and settings: none is missing, none is left over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.pack import ROOT

LOCALES = ROOT / "locales"
NODES: dict[str, Any] = json.loads(
    (ROOT / "tests" / "server" / "object_info.json").read_text(encoding="utf-8")
)
SETTINGS = (ROOT / "web" / "settings" / "settings.js").read_text(encoding="utf-8")

PROPER_NAMES = {"FireRed", "fal"}

GROWING = re.compile(r"(?:images_image|masks_mask)_\d+$")
"""Sockets that keep their names: prompts and errors use them, and a name of ours would hide their
tooltips in Nodes 2.0."""

FOLDERS = {"firered-edit", "firered-edit-main"}
"""What the pack's folder is called: by the registry and git, and in GitHub's archive."""


def _read(language: str, name: str) -> dict[str, Any]:
    text = (LOCALES / language / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _is_chinese(text: Any) -> bool:
    return isinstance(text, str) and re.search("[\u4e00-\u9fff]", text) is not None


def _texts(part: Any) -> Iterator[Any]:
    for value in part.values():
        if isinstance(value, dict):
            yield from _texts(value)
        else:
            yield value


def test_chinese_is_given_for_every_node_and_no_other() -> None:
    assert _read("zh", "nodeDefs").keys() == NODES.keys()


@pytest.mark.parametrize("node", sorted(NODES))
def test_a_node_is_translated_whole(node: str) -> None:
    texts = _read("zh", "nodeDefs")[node]
    assert texts.keys() == {"display_name", "description", "inputs", "outputs"}
    assert texts["inputs"].keys() == set(_input_keys(NODES[node]))
    outputs = NODES[node]["output_name"]
    assert list(texts["outputs"]) == [str(number) for number in range(len(outputs))]
    for key, text in (*texts["inputs"].items(), *texts["outputs"].items()):
        assert text.keys() == ({"tooltip"} if GROWING.match(key) else {"name", "tooltip"})


def _input_keys(node: dict[str, Any]) -> Iterator[str]:
    """What locales call a node's inputs: a dot in a name is an underscore there."""
    for group in node["input"].values():
        for name, (_, options) in group.items():
            yield name
            yield from (f"{name}_{each}" for each in options.get("template", {}).get("names", []))
            for choice in options.get("options", []):
                if isinstance(choice, dict):
                    inner = choice["inputs"].values()
                    yield from (f"{name}_{each}" for inputs in inner for each in inputs)


@pytest.mark.parametrize("name", ["nodeDefs", "settings", "main"])
def test_every_chinese_text_is_chinese(name: str) -> None:
    assert [text for text in _texts(_read("zh", name)) if not _is_chinese(text)] == []


def test_every_setting_is_translated_and_no_other() -> None:
    shown = dict(re.findall(r'id: "(FireRed\.\w+)",\s+name: "([^"]+)"', SETTINGS))
    assert shown
    texts = _read("zh", "settings")
    assert texts.keys() == {name.replace(".", "_") for name in shown}
    assert all(text.keys() == {"name", "tooltip"} for text in texts.values())


def test_figures_of_settings_are_the_same_in_chinese() -> None:
    texts = _read("zh", "settings")
    blocks = SETTINGS.split("  {\n    id: ")[1:]
    assert len(blocks) == len(texts)
    for block in blocks:
        (name,) = re.findall(r'^"([\w.]+)"', block)
        (tooltip,) = re.findall(r"tooltip:(.*?),\n    type:", block, re.DOTALL)
        chinese = texts[name.replace(".", "_")]["tooltip"]
        assert re.findall(r"\d+", tooltip) == re.findall(r"\d+", chinese), name


def test_the_categories_of_settings_are_translated() -> None:
    categories = set(re.findall(r'category: \["(\w+)", "(\w+)"', SETTINGS))
    assert categories
    named = {label for category in categories for label in category} - PROPER_NAMES
    assert _read("zh", "main")["settingsCategories"].keys() == named


@pytest.mark.parametrize("language", ["en", "zh"])
def test_templates_stand_under_the_name_of_the_pack(language: str) -> None:
    names = _read(language, "main")["templateWorkflows"]["category"]
    assert names.keys() == FOLDERS
    assert len(set(names.values())) == 1


def test_english_is_given_where_comfyui_would_not_find_it_and_nowhere_else() -> None:
    """What it says is compared with the nodes on a real server."""
    dotted = {
        node: {key for key in _input_keys(info) if key not in _all_inputs(info)}
        for node, info in NODES.items()
    }
    english = _read("en", "nodeDefs")
    assert {node: set(texts["inputs"]) for node, texts in english.items()} == {
        node: keys for node, keys in dotted.items() if keys
    }
    assert {file.name for file in (LOCALES / "en").iterdir()} == {"main.json", "nodeDefs.json"}


def _all_inputs(node: dict[str, Any]) -> set[str]:
    return {name for group in node["input"].values() for name in group}


def test_no_text_means_something_to_the_translator() -> None:
    """ComfyUI's takes these signs for its own, but for tooltips of inputs and outputs."""
    nodes = _read("zh", "nodeDefs").values()
    texts = [text[key] for text in nodes for key in ("display_name", "description")]
    sockets = [
        each for node in nodes for each in (*node["inputs"].values(), *node["outputs"].values())
    ]
    texts += [socket["name"] for socket in sockets if "name" in socket]
    for language, name in (("zh", "settings"), ("zh", "main"), ("en", "main")):
        texts += _texts(_read(language, name))
    assert [text for text in texts if re.search(r"[@{}|$%\\]", text)] == []
