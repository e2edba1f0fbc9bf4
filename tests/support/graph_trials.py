"""Graphs of any kind given to a real ComfyUI, and the rules that it must keep."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from doubles.fal_server import FalServer
from support.comfyui import ComfyUI, running_comfyui
from support.fuzz_graphs import Graph, picture_defects, weave
from support.pack import ROOT
from support.server_fixtures import FAL_KEY, MODEL_FOLDER, furnish
from support.workflows import Workflow, shipped

MOST_SECONDS = 60.0
"""For one graph of a few small edits, on a machine that is busy with other things."""

MAX_LENGTH = 300
"""Characters of an error's words."""

OURS = "FireRed"
PICTURES, REFUSED, NAMED, OTHERS = "pictures", "refused", "named error", "another node's error"
BROKEN = "broken"


@dataclass(frozen=True)
class Met:
    """What came of one graph. ``broken`` are the rules it broke, in words."""

    number: int
    outcome: str
    broken: list[str]
    words: str = ""

    def __str__(self) -> str:
        return f"graph {self.number}: {self.outcome}: {self.broken}"


class Stage:
    """A ComfyUI that is given graphs. ``seed`` decides all of them."""

    def __init__(self, comfyui: ComfyUI, seed: int) -> None:
        self.comfyui = comfyui
        self._seed = seed

    def meet(self, number: int) -> Met:
        graph = weave(self._seed, number)
        answer = self._post(graph)
        told = (
            answer.json() if answer.headers["Content-Type"].startswith("application/json") else {}
        )
        if answer.status_code != 200:
            return _refused(number, answer.status_code, answer.text, graph)
        if told["node_errors"] and self._queued() == 0 and not self._known(told["prompt_id"]):
            return Met(number, REFUSED, [])
        try:
            entry = self._ended(told["prompt_id"])
        except TimeoutError:
            self.comfyui.post("/interrupt", {})
            return Met(number, BROKEN, [f"does not end in {MOST_SECONDS} s"])
        return _judged(number, entry, graph)

    def _post(self, graph: Graph) -> Any:
        body = f'{{"prompt": {graph.body}, "client_id": "{self.comfyui.client_id}"}}'
        headers = {"Content-Type": "application/json"}
        address = f"{self.comfyui.url}/prompt"
        return self.comfyui.session.post(address, data=body.encode(), headers=headers, timeout=30)

    def _queued(self) -> int:
        return int(self.comfyui.get("/prompt")["exec_info"]["queue_remaining"])

    def _known(self, prompt_id: str) -> bool:
        return prompt_id in self.comfyui.get(f"/history/{prompt_id}")

    def _ended(self, prompt_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            found = self.comfyui.get(f"/history/{prompt_id}")
            if prompt_id in found:
                return dict(found[prompt_id])
            time.sleep(0.02)
        raise TimeoutError

    def good_edit(self) -> np.ndarray[Any, Any]:
        """The pixels of an edit that is the same each time; nothing of the last one is kept."""
        self.comfyui.forget()
        workflow = _good()
        run = self.comfyui.run(workflow)
        (image,) = run.images(workflow.node("SaveImage"))
        with Image.open(self.comfyui.output_file(image)) as opened:
            return np.asarray(opened)


def _good() -> Workflow:
    workflow = shipped("firered_edit_local")
    workflow.set("LoadImage", image="example.png")
    workflow.use_folder(MODEL_FOLDER)
    workflow.set("FireRedEdit", num_inference_steps=2, working_megapixels=0.02)
    return workflow


def _refused(number: int, status: int, text: str, graph: Graph) -> Met:
    """ComfyUI's own checks have said no; they fail where one of ours does."""
    broken = []
    if status != 400:
        broken.append(f"status {status}: {text[:300]}")
    if "exception_during_validation" in text and not _is_comfyuis(text):
        broken.append(f"a check of ours failed: {text[:900]}")
    if not graph.wild:
        broken.append(f"a sound graph was refused: {text[:500]}")
    return Met(number, BROKEN if broken else REFUSED, broken, text)


def _is_comfyuis(text: str) -> bool:
    """Whether only ComfyUI's own code failed over an input, such as a link to nothing."""
    return "firered" not in text.replace(OURS, "")


def _judged(number: int, entry: dict[str, Any], graph: Graph) -> Met:
    broken, words = [], ""
    for output in entry["outputs"].values():
        for text in output.get("text", ()):
            broken += picture_defects(json.loads(text), graph.wild)
    outcome = PICTURES
    for kind, details in entry["status"]["messages"]:
        if kind == "execution_error":
            words = details["exception_message"]
            outcome = NAMED if details["exception_type"].startswith("firered_edit.") else OTHERS
            broken += _error_defects(details, outcome)
            if not graph.wild:
                broken.append(f"a sound graph failed: {words}")
    return Met(number, BROKEN if broken else outcome, broken, words)


def _error_defects(details: dict[str, Any], outcome: str) -> list[str]:
    words = details["exception_message"].strip()
    # Where a failure happened is told by the lines in between; the first leads to every node.
    inside = "".join(details["traceback"][1:])
    if outcome == OTHERS and (details["node_type"].startswith(OURS) or "firered-edit" in inside):
        return [f"unnamed {details['exception_type']}: {words[:200]} {inside[-900:]}"]
    if outcome == OTHERS:
        return []
    said = f"{details['node_type']}: {words}"
    broken = [f"too long: {said}"] if len(words) > MAX_LENGTH else []
    if not words.endswith((".", "again")) or not re.search(r"[.…]\s", words):
        broken.append(f"ends without advice: {said}")
    if "custom_nodes" in words or "data:" in words:
        broken.append(f"shows a path or a picture: {said}")
    return broken


def furnish_strangely(folder: Path) -> Path:
    """As ``furnish`` does, with the pack that makes what no sound node makes."""
    base = furnish(folder)
    pack = ROOT / "tests" / "support" / "fuzz_pack"
    shutil.copytree(pack, base / "custom_nodes" / pack.name)
    return base


@contextmanager
def staged(folder: Path, seed: int) -> Iterator[Stage]:
    """A ComfyUI of its own, its fal listening, with nodes that make what no sound node makes."""
    base = furnish_strangely(folder)
    with (
        FalServer(key=FAL_KEY) as fal,
        running_comfyui(base, environ={**fal.environment, "FAL_KEY": FAL_KEY}) as comfyui,
    ):
        yield Stage(comfyui, seed)
