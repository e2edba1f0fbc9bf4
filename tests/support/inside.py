"""ComfyUI's own modules inside the test process: its layers, manager and LoRA reader.

On the CPU, unless a measure asks for another device. For what a test must look at closely. How the
pack behaves in a running ComfyUI is seen on the real server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.comfyui import comfyui_source
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.host import (  # noqa: E402 - needs the pack
    Handle,
    LayerKit,
    LoraResult,
    PlainHost,
)

if TYPE_CHECKING:
    from torch import nn


@cache
def bridge(device: str = "cpu") -> Any:
    """The pack's ``nodes.host`` package, on a ComfyUI that computes on ``device``."""
    # First, since ComfyUI has a module of the name of one of our folders: nodes.
    sys.path.insert(0, str(comfyui_source()))
    from comfy.cli_args import args

    args.cpu = device == "cpu"
    import firered_edit.nodes.host as host
    from firered_edit.nodes.host import freeing, layers, lora_layouts, memory

    assert all((freeing, layers, lora_layouts, memory))
    return host


class InsideHost(PlainHost):
    """Real layers, memory management and LoRAs of ComfyUI; reports go nowhere.

    ``vocabulary`` stands in for Qwen2.5's: the tiny model's is enough where no prompt is read.
    """

    def __init__(
        self,
        vocabulary: Path | None = None,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        device: str = "cpu",
    ) -> None:
        super().__init__(device, cancelled=cancelled)
        self._bridge = bridge(device)
        self._vocabulary = vocabulary or Path(self._bridge.folders.tokenizer_folder())

    @property
    def layers(self) -> LayerKit:
        kit: LayerKit = self._bridge.layers.ComfyKit(self.device)
        return kit

    @property
    def tokenizer_folder(self) -> Path:
        return self._vocabulary

    def manage(self, module: nn.Module) -> Handle:
        handle: Handle = self._bridge.memory.ManagedModule(module)
        return handle

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        self._bridge.memory.load(handles, activation_bytes)

    def borrowed(self, handle: Handle, layer: nn.Module) -> AbstractContextManager[None]:
        lent: AbstractContextManager[None] = self._bridge.memory.borrowed(handle, layer)
        return lent

    def add_lora(self, handles: Sequence[Handle], file: Path, strength: float) -> LoraResult:
        found: LoraResult = self._bridge.lora_layouts.add_lora(handles, file, strength)
        return found

    def on_free(self, forget: Callable[[], None]) -> None:
        self._bridge.freeing.on_free(forget)
