"""One real ComfyUI for all server and browser tests, with the tiny model and a loopback fal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from doubles.fal_server import FalServer
from doubles.tiny_model import build_tiny_model
from support.comfyui import ComfyUI, comfyui_source, free_port, install_pack, running_comfyui
from support.kinds import MakePhoto
from support.pack import ROOT

MODEL_FOLDER = "tiny-firered"
FAL_KEY = "0a1b2c3d:a-key-that-must-never-be-seen"


@pytest.fixture(scope="session")
def fal_port() -> int:
    """Where ComfyUI looks for fal; each test puts its own server there."""
    return free_port()


@pytest.fixture
def fal(fal_port: int) -> Iterator[FalServer]:
    """A loopback fal, fresh for this test."""
    with FalServer(port=fal_port, key=FAL_KEY) as server:
        yield server


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folders: the pack in custom_nodes, a tiny model, ComfyUI's own example picture."""
    return furnish(tmp_path_factory.mktemp("comfyui"))


def furnish(folder: Path) -> Path:
    """Give ``folder`` the pack, the packs of the tests, a tiny model and a picture."""
    packs = install_pack(folder).parent
    for own in ("blocking_pack", "memory_pack"):
        shutil.copytree(ROOT / "tests" / "support" / own, packs / own)
    build_tiny_model(folder / "models" / "diffusers" / MODEL_FOLDER)
    (folder / "input").mkdir()
    shutil.copy2(comfyui_source() / "input" / "example.png", folder / "input")
    return folder


@pytest.fixture(scope="session")
def comfyui(base: Path, fal_port: int) -> Iterator[ComfyUI]:
    with running_comfyui(base, environ=fal_environment(fal_port, FAL_KEY)) as server:
        yield server


def fal_environment(port: int, key: str) -> dict[str, str]:
    """What leads ComfyUI to a fal on loopback."""
    address = f"http://127.0.0.1:{port}"
    return {"FAL_QUEUE_RUN_HOST": address, "FAL_REST_HOST": address, "FAL_KEY": key}


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
