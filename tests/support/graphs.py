"""Graphs in short descriptions, and ComfyUI's own page that makes workflow files of them."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect

from support.browser import Editor

Place = tuple[int, int]

_SCRIPT = (Path(__file__).parent / "graphs.js").read_text(encoding="utf-8")

_WIDTH = 100
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

THUMBNAIL_BYTES = 200_000
_THUMBNAIL = (1280, 960)
_MARGIN = 20
_MENUS = 240


@dataclass(frozen=True)
class Model:
    """A file that ComfyUI's dialog of missing models offers; ``directory`` is below models."""

    name: str
    url: str
    directory: str


@dataclass(frozen=True)
class Node:
    """A node: ``values`` of its fields, and ``links`` from an input's name to "key.output".

    Ids follow the order of the nodes. A field that depends on another comes after it.
    """

    key: str
    type: str
    at: Place
    size: Place
    values: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    models: Sequence[Model] = ()
    title: str | None = None
    color: str | None = None
    bgcolor: str | None = None


@dataclass(frozen=True)
class Group:
    """A titled frame: left, top, width, height."""

    title: str
    bounding: tuple[int, int, int, int]
    color: str = "#3f789e"


@dataclass(frozen=True)
class Example:
    """A workflow of the template browser."""

    name: str
    nodes: Sequence[Node]
    groups: Sequence[Group] = ()


@dataclass(frozen=True)
class Blueprint:
    """A node with a graph inside: which inputs and outputs it shows, in the artist's order.

    ``inputs`` are names to "key.input", ``outputs`` names to "key.output"; ``ends`` is where the
    two ends of the inner graph lie.
    """

    name: str
    description: str
    aliases: Sequence[str]
    nodes: Sequence[Node]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    ends: Mapping[str, Place]
    size: Place = (400, 400)
    groups: Sequence[Group] = ()


@dataclass(frozen=True)
class Drawn:
    """An example as files: the workflow, what Run sends for it, and its picture."""

    workflow: dict[str, Any]
    api: dict[str, Any]
    thumbnail: bytes


def draw(editor: Editor, example: Example) -> Drawn:
    """Place ``example`` in an empty editor and save it."""
    _call(editor, "async ({draw}, graph) => { await draw(graph); }", asdict(example))
    workflow = _stable(editor.saved(), example.name)
    return Drawn(workflow, editor.api_prompt(), _thumbnail(editor))


def fold(editor: Editor, blueprint: Blueprint) -> dict[str, Any]:
    """Place ``blueprint`` in an empty editor and publish it."""
    script = "async ({fold}, graph) => JSON.stringify(await fold(graph))"
    folded = json.loads(_call(editor, script, asdict(blueprint)))
    (subgraph,) = folded["subgraphs"]
    subgraph.update(description=blueprint.description, category="FireRed")
    workflow = {
        "revision": 0,
        "last_node_id": folded["last"],
        "last_link_id": 0,
        "nodes": folded["outside"],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintSearchAliases": list(blueprint.aliases)},
    }
    return _stable(workflow, blueprint.name)


def pretty(value: Any, indent: int = 0) -> str:
    """JSON as people write it: what fits into a line is one."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) + indent <= _WIDTH:
        return flat
    inner = indent + 2
    if isinstance(value, dict):
        lines = [f"{json.dumps(name)}: {pretty(own, inner)}" for name, own in value.items()]
    else:
        lines = [pretty(own, inner) for own in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    body = ",\n".join(" " * inner + line for line in lines)
    return f"{start}\n{body}\n{' ' * indent}{end}"


def _call(editor: Editor, function: str, argument: Any) -> Any:
    return editor.page.evaluate(f"argument => ({function})({_SCRIPT}, argument)", argument)


def _stable(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """``workflow`` with ids that are the same each time it is made."""
    text = json.dumps(workflow)
    for number, found in enumerate(dict.fromkeys(_UUID.findall(text))):
        own = "/".join(["firered-edit", name, *([str(number)] if number else [])])
        text = text.replace(found, str(uuid.uuid5(uuid.NAMESPACE_URL, own)))
    return dict(json.loads(text))


def _thumbnail(editor: Editor) -> bytes:
    """The graph as the page draws it, as a JPEG file."""
    left, top, right, bottom = _call(editor, "({extent}) => extent()", None)
    width, height = (round(side) + 2 * _MARGIN for side in (right - left, bottom - top))
    # Menus at the right and lower edge of the page stay beside the graph.
    editor.page.set_viewport_size({"width": width + _MENUS, "height": height + _MENUS})
    corner = [left - _MARGIN, top - _MARGIN]
    x, y = _call(editor, "async ({lookAt}, corner) => await lookAt(...corner)", corner)
    editor.page.wait_for_load_state("networkidle")
    clip = FloatRect(x=x, y=y, width=width, height=height)
    with Image.open(io.BytesIO(editor.page.screenshot(clip=clip, animations="disabled"))) as shot:
        picture = shot.convert("RGB")
    picture.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, optimize=True)
    return file.getvalue()
