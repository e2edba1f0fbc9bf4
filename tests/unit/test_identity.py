"""Engines that change nothing: what goes in comes out, in size, place, scale and colour.

The geometry of both nodes is all that is left of an edit here. Locally the latents carry the
pixels themselves and the denoiser returns the main reference; fal's double returns it too, in the
size that it was asked for, or in one that it prefers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doubles.fal_server import FalServer
from firered_edit.pipeline.drift import measure
from firered_edit.pipeline.geometry import CELL, Size
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.images import Pixels, to_tensor
from firered_edit.pipeline.local import conditioning, decoding, engine
from firered_edit.pipeline.local.acceleration import choosing
from firered_edit.pipeline.local.latents import Tokens, grid_of
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import load_folder
from support.fal_fixtures import Listener
from support.inside import bridge
from support.photos import photograph

pytestmark = pytest.mark.usefixtures("quick")

SIZES = [
    *((1080, 1350), (4000, 3000), (333, 517), (1024, 1024), (512, 512), (1920, 1080)),
    *((1280, 720), (1512, 2016), (600, 900), (1000, 1000), (1216, 832), (768, 1344)),
    *((257, 255), (1023, 1025), (640, 480), (480, 640), (2048, 858), (1440, 1800)),
    *((721, 1283), (999, 333), (300, 1200), (1600, 200), (150, 1100), (128, 128)),
    *((97, 61), (1501, 1001), (2000, 1500), (853, 1279), (1111, 777), (800, 801)),
]
"""Width and height; odd, narrow, tiny and large ones among them."""

Node = Callable[[torch.Tensor], torch.Tensor]


def test_thirty_sizes_are_tried() -> None:
    assert len(set(SIZES)) == 30


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", PlainHost())


@pytest.fixture
def local_node(model: FireRedModel, monkeypatch: pytest.MonkeyPatch) -> Node:
    """FireRed Edit (Local), its widgets as they are placed."""
    bridge()
    from firered_edit.nodes import edit_local

    monkeypatch.setattr(conditioning, "encode", _pixels_as_tokens)
    monkeypatch.setattr(choosing, "ReferencePasses", lambda *arguments: arguments[-1])
    monkeypatch.setattr(engine, "denoise", lambda conditions, *_: conditions.references[0])
    monkeypatch.setattr(decoding, "decode", _tokens_as_pixels)
    monkeypatch.setattr(edit_local, "node_run", _run_of(PlainHost()))
    widgets = _widgets(edit_local.FireRedEdit)
    return lambda picture: _edited(edit_local.FireRedEdit.execute(model, **widgets(picture)))


@pytest.fixture
def fal_node(server: FalServer, monkeypatch: pytest.MonkeyPatch) -> Node:
    """FireRed Edit (fal), its widgets as they are placed."""
    bridge()
    from firered_edit.nodes import edit_fal

    monkeypatch.setattr(edit_fal, "node_run", _run_of(Listener()))
    widgets = _widgets(edit_fal.FireRedEditFal, max_cost=10.0)

    def run(picture: torch.Tensor) -> torch.Tensor:
        # In a thread of its own: the browser of other tests keeps a loop running in this one.
        with ThreadPoolExecutor(1) as thread:
            edit = edit_fal.FireRedEditFal.execute(**widgets(picture))
            return _edited(thread.submit(asyncio.run, edit).result())

    return run


def _widgets(node: Any, **changed: Any) -> Callable[[torch.Tensor], dict[str, Any]]:
    """What a node that was just placed is run with, its picture being connected."""
    defaults = {
        field.id: field.default
        for field in node.define_schema().inputs
        if field.id not in ("model", "images", "size")
    }
    size = {"size": "match image", "index": 1}
    own = {**defaults, "prompt": "change nothing", "size": size, **changed}
    return lambda picture: {**own, "images": {"image_1": picture}}


def _run_of(host: PlainHost) -> Callable[[], Any]:
    @contextmanager
    def run() -> Iterator[PlainHost]:
        yield host

    return run


def _edited(output: Any) -> torch.Tensor:
    images: torch.Tensor = output.result[0]
    return images


# Whole numbers up to 255 survive in bf16, which is what the tiny model computes in.
def _pixels_as_tokens(_vae: object, pixels: Pixels, device: torch.device) -> Tokens:
    rows, columns = grid_of(Size(pixels.shape[1], pixels.shape[0]))
    cells = torch.from_numpy(pixels.copy()).reshape(rows, CELL, columns, CELL, 3)
    values = cells.transpose(1, 2).reshape(1, rows * columns, -1)
    return Tokens(values.to(device, torch.float32), (rows, columns))


def _tokens_as_pixels(_vae: object, tokens: Tokens) -> torch.Tensor:
    rows, columns = tokens.grid
    cells = tokens.values.float().reshape(rows, columns, CELL, CELL, 3)
    return cells.transpose(1, 2).reshape(rows * CELL, columns * CELL, 3) / 255


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_local_node_moves_nothing(size: tuple[int, int], local_node: Node) -> None:
    _check_identity(size, local_node)


@pytest.mark.parametrize("rounding", ["exact", "floor16", "refit1mp32"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_fal_node_moves_nothing_whatever_the_server_rounds(
    size: tuple[int, int], rounding: Any, fal_node: Node, server: FalServer
) -> None:
    server.rounding = rounding
    _check_identity(size, fal_node)


def _check_identity(size: tuple[int, int], node: Node) -> None:
    before = photograph(*size)
    (after,) = node(to_tensor(before)[None])
    assert tuple(after.shape) == (size[1], size[0], 3)
    found = measure(before.astype(np.float32) / 255, after.numpy())
    assert found.shift == pytest.approx((0, 0), abs=0.005)
    assert found.scale == pytest.approx(1, abs=5e-5)
    assert found.colour == pytest.approx((0, 0, 0), abs=0.5)
