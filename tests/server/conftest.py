"""One real ComfyUI for all server tests, with the tiny model and a loopback fal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from doubles.fal_server import FalServer
from doubles.tiny_model import build_tiny_model
from support.comfyui import ComfyUI, install_pack, running_comfyui
from support.kinds import MakePhoto
from support.workflows import Workflow, shipped

MODEL_FOLDER = "tiny-firered"


@pytest.fixture(scope="session")
def fal_server() -> Iterator[FalServer]:
    with FalServer() as server:
        yield server


@pytest.fixture
def fal(fal_server: FalServer) -> FalServer:
    """The loopback fal, its counts and faults cleared."""
    fal_server.reset()
    return fal_server


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folders: the pack in custom_nodes, a tiny model in models/diffusers."""
    folder = tmp_path_factory.mktemp("comfyui")
    install_pack(folder)
    build_tiny_model(folder / "models" / "diffusers" / MODEL_FOLDER)
    return folder


@pytest.fixture(scope="session")
def comfyui(base: Path, fal_server: FalServer) -> Iterator[ComfyUI]:
    with running_comfyui(base, environ=fal_server.environ) as server:
        yield server


@pytest.fixture(scope="session")
def picture(
    comfyui: ComfyUI, photo: MakePhoto, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int], str]:
    """The name of an uploaded picture of a given width and height."""
    folder = tmp_path_factory.mktemp("pictures")

    def upload(width: int, height: int) -> str:
        file = folder / f"photo_{width}x{height}.png"
        Image.fromarray(photo(width, height)).save(file)
        return comfyui.upload(file)

    return upload


@pytest.fixture
def local(picture: Callable[[int, int], str]) -> Workflow:
    """The shipped local workflow on a small picture, made quick."""
    workflow = shipped("firered_edit_local")
    workflow.set("LoadImage", image=picture(120, 90))
    workflow.set("FireRedLoadModel", **{"source.folder": MODEL_FOLDER})
    workflow.set("FireRedEdit", num_inference_steps=2, working_megapixels=0.02)
    return workflow


@pytest.fixture
def remote(picture: Callable[[int, int], str]) -> Workflow:
    """The shipped fal workflow on a small picture."""
    workflow = shipped("firered_edit_fal")
    workflow.set("LoadImage", image=picture(120, 90))
    return workflow
