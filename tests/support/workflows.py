"""The shipped workflows in API format, and small changes to them."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from support.comfyui import ComfyUI, Run
from support.pack import ROOT

API_FOLDER = ROOT / "example_workflows" / "api"

RELEASED = ROOT / "tests" / "released"
"""By version, the example workflows as they were shipped with it. They never change."""


class Workflow(dict[str, Any]):
    """A workflow in API format: node id to class and inputs."""

    def ids(self, class_type: str) -> list[str]:
        """The ids of all nodes of a class."""
        return [key for key, node in self.items() if node["class_type"] == class_type]

    def inputs_of(self, class_type: str) -> list[dict[str, Any]]:
        """The inputs of all nodes of a class, to be changed in place."""
        return [self[key]["inputs"] for key in self.ids(class_type)]

    def node(self, class_type: str) -> str:
        """The id of the first node of a class."""
        return next(iter(self.ids(class_type)))

    def set(self, class_type: str, **inputs: Any) -> None:
        """Change inputs of the first node of a class; None removes one."""
        own = self[self.node(class_type)]["inputs"]
        own.update(inputs)
        for name in [name for name, value in inputs.items() if value is None]:
            del own[name]

    def use_folder(self, name: str) -> None:
        """Take the model from a folder of models/diffusers."""
        own = self[self.node("FireRedLoadModel")]["inputs"]
        for key in [key for key in own if key.startswith("source.")]:
            del own[key]
        own.update({"source": "folder", "source.folder": name})

    def add(self, class_type: str, **inputs: Any) -> str:
        """Add a node; its id."""
        key = str(max(map(int, self)) + 1)
        self[key] = {"class_type": class_type, "inputs": inputs}
        return key


def receipt(workflow: Workflow, run: Run) -> dict[str, Any]:
    """The receipt that ``run`` showed."""
    return dict(json.loads(run.texts(workflow.node("PreviewAny"))[0]))


def saved(comfyui: ComfyUI, workflow: Workflow, run: Run) -> Image.Image:
    """The first picture that ``run`` saved."""
    file = comfyui.output_file(run.images(workflow.node("SaveImage"))[0])
    with Image.open(file) as opened:
        return opened.copy()


def shipped(name: str) -> Workflow:
    """A fresh copy of a shipped workflow."""
    return Workflow(json.loads((API_FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def released(version: str, name: str) -> Workflow:
    """A fresh copy of a workflow as it was shipped with ``version``."""
    file = RELEASED / version / "api" / f"{name}.json"
    return Workflow(json.loads(file.read_text(encoding="utf-8")))


def all_released() -> list[tuple[str, str]]:
    """Version and name of every workflow that was ever shipped."""
    return sorted((file.parent.name, file.stem) for file in RELEASED.glob("*/*.json"))
