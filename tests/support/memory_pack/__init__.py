"""A node pack for tests: shows what ComfyUI has loaded, and can make the CPU a tiny graphics card.

With ``TEST_DEVICE_BYTES`` set, ComfyUI's model manager sees a device of that many bytes: it evicts
models and leaves layers in main memory as on a card. The mathematics still runs on the CPU.
"""

import os
from typing import Any

import comfy.model_management as manager
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer


def _pretend_device(size: int) -> None:
    # Another device than the one that ComfyUI takes for the CPU, on the same memory.
    device = torch.device("cpu", 0)

    def free(_device: Any = None, torch_free_too: bool = False) -> Any:
        left = size - sum(model.model_loaded_memory() for model in manager.current_loaded_models)
        return (left, 0) if torch_free_too else left

    manager.get_torch_device = lambda: device
    manager.get_all_torch_devices = lambda exclude_current=False: [device]
    manager.get_free_memory = free
    manager.is_device_cpu = lambda _device: False
    manager.vram_state = manager.VRAMState.NORMAL_VRAM
    manager.minimum_inference_memory = lambda: 0
    manager.extra_reserved_memory = lambda: 0


async def _loaded(_request: web.Request) -> web.Response:
    models = [
        {
            "name": type(found.model.model.diffusion_model).__name__,
            "size": found.model_memory(),
            "loaded": found.model_loaded_memory(),
        }
        for found in manager.current_loaded_models
        if hasattr(found.model.model, "diffusion_model")
    ]
    return web.json_response(models)


class Extension(ComfyExtension):
    async def on_load(self) -> None:
        if size := os.environ.get("TEST_DEVICE_BYTES"):
            _pretend_device(int(size))
        PromptServer.instance.routes.get("/test/loaded")(_loaded)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []


async def comfy_entrypoint() -> Extension:
    return Extension()
