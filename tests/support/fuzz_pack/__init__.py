"""A node pack for tests: what no sound node makes, a look at pictures, and a clock that jumps."""

import json
import time
from typing import Any

import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

_FILLINGS = ("texture", "black", "white", "nan", "inf", "negative", "huge", "one nan")
_DTYPES = ("float32", "float16", "bfloat16", "float64", "uint8", "bool")


class TestPicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestPicture",
            category="tests",
            inputs=[
                io.String.Input("shape"),
                io.Combo.Input("filling", options=list(_FILLINGS)),
                io.Combo.Input("dtype", options=list(_DTYPES)),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(cls, shape: str, filling: str, dtype: str) -> io.NodeOutput:
        made = _filled(json.loads(shape), filling).to(getattr(torch, dtype))
        return io.NodeOutput(made, made)


def _filled(shape: list[int], filling: str) -> torch.Tensor:
    whole = {"black": 0.0, "white": 1.0, "nan": float("nan"), "inf": float("inf"), "huge": 1e30}
    if filling in whole:
        return torch.full(shape, whole[filling])
    texture = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    if filling == "negative":
        return texture * 6 - 3
    if filling == "one nan" and texture.numel():
        texture.view(-1)[-1] = float("nan")
    return texture


class TestValue(io.ComfyNode):
    """A value of any type where a link brings it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestValue",
            category="tests",
            inputs=[io.String.Input("value")],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, value: str) -> io.NodeOutput:
        return io.NodeOutput(json.loads(value))


class TestLook(io.ComfyNode):
    """Says of pictures or masks what they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestLook",
            category="tests",
            is_output_node=True,
            inputs=[io.AnyType.Input("seen"), io.String.Input("promised")],
            outputs=[],
        )

    @classmethod
    def execute(cls, seen: Any, promised: str) -> io.NodeOutput:
        told = {
            "shape": list(seen.shape),
            "dtype": str(seen.dtype),
            "finite": bool(torch.isfinite(seen).all()),
            "least": float(seen.min()),
            "most": float(seen.max()),
            "promised": promised,
        }
        return io.NodeOutput(ui={"text": [json.dumps(told)]})


_genuine = time.time


async def _set_clock(request: web.Request) -> web.Response:
    """Let this process believe that it is so many seconds later, or earlier."""
    seconds = float((await request.json())["seconds"])
    time.time = lambda: _genuine() + seconds
    return web.json_response({})


class Extension(ComfyExtension):
    async def on_load(self) -> None:
        PromptServer.instance.routes.post("/test/clock")(_set_clock)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TestPicture, TestValue, TestLook]


async def comfy_entrypoint() -> Extension:
    return Extension()
