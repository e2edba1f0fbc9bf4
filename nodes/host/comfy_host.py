"""One node's run, as the engines see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
from comfy_execution.utils import get_executing_context

from ...pipeline.errors import EditCancelled, FireRedError
from ...pipeline.host import Handle, LayerKit, LoraResult, Phase, RemoteSettings
from . import (
    cancelling,
    endings,
    failing,
    folders,
    freeing,
    lora_layouts,
    memory,
    progress,
    settings,
)
from .layers import ComfyKit
from .previews import Previews

if TYPE_CHECKING:
    import torch
    from torch import nn


class ComfyHost:
    """Reports to the node ``node_id`` of the run ``run_id``. Usable from any thread."""

    def __init__(self, run_id: str, node_id: str) -> None:
        self.run_id = run_id
        self.node_id = node_id
        self._previews = Previews(memory.compute_device())
        self._preview: Any | None = None
        self.ticket = progress.enter(run_id, node_id)

    @classmethod
    def current(cls) -> ComfyHost:
        """The host of the node that is being executed; call it on ComfyUI's own thread."""
        context = get_executing_context()
        return cls(context.prompt_id, context.node_id)

    def phase(self, phase: Phase) -> None:
        self.ticket.phase(phase)

    def say(self, text: str) -> None:
        self.ticket.say(text)

    def progress(self, value: int, total: int) -> None:
        self.ticket.progress(value, total, self._preview)

    def preview(self, estimate: Callable[[], torch.Tensor]) -> None:
        self._preview = self._previews.make(estimate)

    def cancelled(self) -> bool:
        return cancelling.is_cancelled(self.run_id)

    @property
    def data_folder(self) -> Path:
        return folders.data_folder()

    @property
    def settings(self) -> RemoteSettings:
        return settings.remote()

    def when_run_ends(self, tell: Callable[[bool], None]) -> None:
        endings.when_run_ends(self.run_id, tell)

    @property
    def device(self) -> torch.device:
        return memory.compute_device()

    def manage(self, module: nn.Module) -> Handle:
        return memory.ManagedModule(module)

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        memory.load(handles, activation_bytes)

    @property
    def total_memory(self) -> int:
        return memory.total_memory()

    @property
    def layers(self) -> LayerKit:
        return ComfyKit(self.device)

    @property
    def tokenizer_folder(self) -> Path | None:
        return folders.tokenizer_folder()

    def borrowed(self, handle: Handle, layer: nn.Module) -> AbstractContextManager[None]:
        return memory.borrowed(handle, layer)

    def add_lora(self, handles: Sequence[Handle], file: Path, strength: float) -> LoraResult:
        return lora_layouts.add_lora(handles, file, strength)

    def on_free(self, forget: Callable[[], None]) -> None:
        freeing.on_free(forget)


STOPPED = "stopped by an error; ComfyUI's log has it"
LEFT = (
    "another node failed; what was sent to fal goes on there: run again to have it, at no further "
    "cost"
)


@contextmanager
def node_run() -> Iterator[ComfyHost]:
    """The run of the node that is being executed.

    A cancelled edit shows as cancelled in ComfyUI, not as a red error. An error's words are shown
    on the node too, since ComfyUI's own notice hides them behind a button. However it ends, the
    node's last text is about how it ended.
    """
    cancelling.notice_presses()
    host = ComfyHost.current()
    try:
        yield host
    except (EditCancelled, comfy.model_management.InterruptProcessingException):
        host.ticket.leave("cancelled", "cancelled")
        raise comfy.model_management.InterruptProcessingException from None
    except asyncio.CancelledError:
        # The run is over: cancelled through another node, or failed in one.
        if host.cancelled():
            host.ticket.leave("cancelled", "cancelled")
        else:
            host.ticket.leave("left at fal", LEFT)
        raise
    except FireRedError as error:
        host.ticket.leave("failed", str(error))
        failing.tell(error, host.run_id, host.node_id)
        raise
    except BaseException:
        host.ticket.leave("failed", STOPPED)
        raise
    host.ticket.leave("done")
