"""One node's run, as the engines see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...pipeline.errors import EditCancelled, FireRedError
from ...pipeline.host import Handle, LayerKit, LoraResult, RemoteSettings
from . import cancelling, endings, folders, freeing, lora, memory, settings
from .layers import ComfyKit
from .previews import Previews

if TYPE_CHECKING:
    import torch
    from torch import nn


class ComfyHost:
    """Reports to the node ``node_id`` of the run ``run_id``. Usable from any thread."""

    def __init__(self, run_id: str, node_id: str) -> None:
        self.run_id = run_id
        self._node_id = node_id
        self._previews = Previews(memory.compute_device())
        self._preview: Any | None = None

    @classmethod
    def current(cls) -> ComfyHost:
        """The host of the node that is being executed; call it on ComfyUI's own thread."""
        context = get_executing_context()
        return cls(context.prompt_id, context.node_id)

    def say(self, text: str) -> None:
        if not cancelling.is_current(self.run_id):
            return
        # Nodes 2.0 reads it as Markdown, where only two trailing spaces keep a line break.
        shown = text.replace("\n", "  \n")
        PromptServer.instance.send_progress_text(shown, self._node_id)

    def progress(self, value: int, total: int) -> None:
        if not cancelling.is_current(self.run_id):
            return
        try:
            bar = comfy.utils.ProgressBar(total, node_id=self._node_id)
            bar.update_absolute(value, total, self._preview)
        except comfy.model_management.InterruptProcessingException:
            # The bar looks at the flag and clears it; the engine asks when it is safe to stop.
            cancelling.remember_cancel(self.run_id)

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
        return lora.add_lora(handles, file, strength)

    def on_free(self, forget: Callable[[], None]) -> None:
        freeing.on_free(forget)


@contextmanager
def node_run() -> Iterator[ComfyHost]:
    """The run of the node that is being executed.

    A cancelled edit shows as cancelled in ComfyUI, not as a red error. An error's words are shown
    on the node too, since ComfyUI's own notice hides them behind a button.
    """
    cancelling.notice_presses()
    host = ComfyHost.current()
    try:
        yield host
    except EditCancelled:
        raise comfy.model_management.InterruptProcessingException from None
    except FireRedError as error:
        host.say(str(error))
        raise
