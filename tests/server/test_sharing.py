"""Loader nodes on the same files: nothing is read or kept twice."""

from __future__ import annotations

from typing import Any

import pytest

from support.comfyui import ComfyUI, wait_until
from support.workflows import Workflow

TRANSFORMER = "QwenImageTransformer2DModel"


def _second_edit(workflow: Workflow, **loader: Any) -> None:
    """A loader and an edit of its own beside those of ``workflow``."""
    own = workflow[workflow.node("FireRedLoadModel")]["inputs"]
    model = workflow.add("FireRedLoadModel", **{**own, **loader})
    asked = workflow[workflow.node("FireRedEdit")]["inputs"]
    edit = workflow.add("FireRedEdit", **{**asked, "model": [model, 0], "seed": 77})
    workflow.add("SaveImage", images=[edit, 0], filename_prefix="second")


def _start_empty(comfyui: ComfyUI, workflow: Workflow) -> None:
    """Let ComfyUI forget what it has loaded: only what was there can be seen to go."""
    comfyui.run(workflow)
    comfyui.forget()
    wait_until(lambda: not comfyui.get("/test/loaded"))


def _transformers(comfyui: ComfyUI) -> int:
    return [model["name"] for model in comfyui.get("/test/loaded")].count(TRANSFORMER)


@pytest.mark.parametrize("loader", [{}, {"precision": "bf16"}], ids=["equal", "other precision"])
def test_two_loaders_of_one_graph_share_a_model(
    comfyui: ComfyUI, local: Workflow, loader: dict[str, Any]
) -> None:
    _start_empty(comfyui, local)
    _second_edit(local, **loader)
    run = comfyui.run(local)
    assert all(run.images(node) for node in local.ids("SaveImage"))
    assert _transformers(comfyui) == 1


def test_weights_that_lie_otherwise_are_another_model(comfyui: ComfyUI, local: Workflow) -> None:
    _start_empty(comfyui, local)
    _second_edit(local, precision="int8")
    comfyui.run(local)
    assert _transformers(comfyui) == 2


def test_the_next_run_reads_no_file_again(comfyui: ComfyUI, local: Workflow) -> None:
    comfyui.run(local)
    before = _starts_of_loading(comfyui)
    own = local.pop(local.node("FireRedLoadModel"))
    renamed = local.add("FireRedLoadModel", **own["inputs"])
    local.set("FireRedEdit", model=[renamed, 0], seed=78)
    comfyui.run(local)
    assert _starts_of_loading(comfyui) == before > 0


def _starts_of_loading(comfyui: ComfyUI) -> int:
    """How often ComfyUI took in a transformer that was new to it."""
    log = comfyui.log.read_text(errors="replace")
    return log.count(f"Requested to load FireRed{TRANSFORMER}")
