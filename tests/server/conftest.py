"""The shipped workflows, made small and quick for the server tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from doubles.fal_server import FalServer
from support.server_fixtures import MODEL_FOLDER
from support.workflows import Workflow, shipped


@pytest.fixture
def local(picture: Callable[[int, int], str]) -> Workflow:
    """The shipped local workflow on a small picture, made quick."""
    workflow = shipped("firered_edit_local")
    workflow.set("LoadImage", image=picture(120, 90))
    workflow.use_folder(MODEL_FOLDER)
    workflow.set("FireRedEdit", num_inference_steps=2, working_megapixels=0.02)
    return workflow


@pytest.fixture
def remote(
    picture: Callable[[int, int], str], fal: FalServer, request: pytest.FixtureRequest
) -> Workflow:
    """The shipped fal workflow on a small picture, its fal listening.

    It asks for something of its own, for what was paid in one test would be there in the next.
    """
    workflow = shipped("firered_edit_fal")
    workflow.set("LoadImage", image=picture(120, 90))
    workflow.set("FireRedEditFal", prompt=f"A sign that reads {request.node.name!r}")
    return workflow
