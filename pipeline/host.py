"""What an engine asks of the program around it, and a plain answer without ComfyUI."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import nn

from .errors import SetupError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """What an edit does now.

    A clock runs beside ``text`` and goes on as long as ``clock`` stays the same; by default that is
    the text itself. ``expected_s`` is how long it takes from the clock's start, where that is
    known. ``counted`` says where the edit is, beside others of its list.
    """

    text: str
    clock: str = ""
    expected_s: float | None = None
    counted: str = "waiting"

    @property
    def timed_by(self) -> str:
        return self.clock or self.text


class Reporter(Protocol):
    """How an edit talks to the artist while it runs. Every method may be called from any thread."""

    def phase(self, phase: Phase) -> None:
        """Show ``phase``, and for how long it has gone on."""

    def say(self, text: str) -> None:
        """Show ``text``, which stays: what an edit came to, or why it stops."""

    def progress(self, value: int, total: int) -> None:
        """Show that ``value`` of ``total`` equal parts are done."""

    def cancelled(self) -> bool:
        """Whether the artist pressed Cancel; stays true for the rest of the run."""


Storage = Literal["stored", "full", "fp8", "int8"]
"""How weights lie in memory: as in their files, in the dtype of the mathematics, or in 8 bits."""


class LayerKit(Protocol):
    """The layers models are built from: a host's own kind can be streamed and patched."""

    @property
    def eight_bit(self) -> Storage | None:
        """The 8-bit storage that suits the device best, if weights can be brought to one."""

    def read(self, file: Path) -> dict[str, torch.Tensor]:
        """The tensors of a safetensors file, not copied where the host can avoid it.

        What quantisation needs stands beside a layer's weight in the newer of ComfyUI's forms:
        ``<layer>.comfy_quant`` and its scales.
        """

    def fill(
        self,
        module: nn.Module,
        tensors: dict[str, torch.Tensor],
        dtype: torch.dtype,
        storage: Storage,
        check: Callable[[], None],
    ) -> None:
        """Give ``module``, built without memory, the host's layers and ``tensors`` as weights.

        The mathematics runs in ``dtype`` and does not change. ``tensors`` is emptied on the way, so
        that no weight is held twice; ``check`` is called between tensors and may raise.
        """

    def multiplied(self, module: nn.Module) -> float:
        """The share of the packed weights in ``module`` that are multiplied as they lie.

        The others are unpacked for every product, which costs time instead of saving it.
        """


class Handle(Protocol):
    """A module whose place in memory the host decides."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def managed(self) -> object:
        """What the host's memory manager knows it by."""

    @property
    def version(self) -> str:
        """Changes with every change of the weights, such as a LoRA."""


class LocalHost(Reporter, Protocol):
    """What the local engine needs besides: a device, and somebody who manages its memory."""

    @property
    def device(self) -> torch.device:
        """Where the mathematics runs."""

    @property
    def total_memory(self) -> int:
        """Bytes of the device in all, whatever is free now."""

    @property
    def layers(self) -> LayerKit:
        """What models are built from."""

    @property
    def tokenizer_folder(self) -> Path | None:
        """Qwen2.5's vocabulary, where the host has it."""

    def preview(self, estimate: Callable[[], torch.Tensor]) -> None:
        """Show the picture in the making together with the next progress.

        ``estimate`` gives it as normalised latents (1, 16, 1, h, w). It is called only if somebody
        wants to look: it costs a copy from the device.
        """

    def manage(self, module: nn.Module) -> Handle:
        """Put ``module`` under the host's memory management; it stays where it is for now."""

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        """Bring ``handles`` to the device and leave ``activation_bytes`` free beside them.

        What does not fit is streamed layer by layer, where the host can.
        """

    def borrowed(self, handle: Handle, layer: nn.Module) -> AbstractContextManager[None]:
        """Within the context ``layer``, a piece of ``handle``'s module, is on the device.

        The rest of the module stays where it is.
        """

    def add_lora(self, handles: Sequence[Handle], file: Path, strength: float) -> LoraResult:
        """``handles`` with a LoRA added, as new handles of the same modules."""

    def on_free(self, forget: Callable[[], None]) -> None:
        """Call the bound method ``forget`` whenever the artist frees memory.

        It is held weakly: its object lives no longer for it.
        """


@dataclass(frozen=True)
class LoraResult:
    """``matched`` of ``total`` layers of a LoRA file found their place in ``handles``."""

    handles: tuple[Handle, ...]
    matched: int
    total: int


@dataclass(frozen=True)
class RemoteSettings:
    """What whoever runs this machine chose for edits on fal.

    ``window`` jobs are at fal at once; ``daily_limit`` is in US dollars, None for no limit;
    ``upload_lifetime_s`` is how long fal keeps reference pictures that were uploaded.
    """

    window: int = 16
    daily_limit: float | None = None
    upload_lifetime_s: int = 24 * 3600


class RemoteHost(Reporter, Protocol):
    """What the fal engine needs besides."""

    @property
    def settings(self) -> RemoteSettings:
        """As they are now."""

    @property
    def run_id(self) -> str:
        """Names the whole run this edit belongs to: one press of the Run button."""

    @property
    def data_folder(self) -> Path:
        """Where key file and journal live; readable by this user only."""

    def when_run_ends(self, tell: Callable[[bool], None]) -> None:
        """Call ``tell`` once, from any thread, when the run has ended.

        It is told whether the run went well to its end: only then does the artist have what the
        edit returned.
        """


class PlainHandle:
    """A module that stays wherever it was last moved."""

    version = ""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    def managed(self) -> object:
        return self.module


class PlainKit:
    """Torch's own layers: every weight lies in the dtype of the mathematics."""

    eight_bit: Storage | None = None

    def read(self, file: Path) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        if file.suffix.lower() == ".gguf":
            raise SetupError("A GGUF file needs ComfyUI's layers.", "Load it inside ComfyUI.")
        return load_file(file)

    def fill(
        self,
        module: nn.Module,
        tensors: dict[str, torch.Tensor],
        dtype: torch.dtype,
        storage: Storage,
        check: Callable[[], None],
    ) -> None:
        quantised = any(key.endswith((".comfy_quant", ".scale_weight")) for key in tensors)
        if quantised or storage in ("fp8", "int8"):
            raise SetupError(
                "Quantised weights need ComfyUI's layers.", "Load this model inside ComfyUI."
            )
        for key in list(tensors):
            check()
            tensors[key] = tensors[key].to(dtype)
        module.load_state_dict(tensors, assign=True)
        tensors.clear()

    def multiplied(self, module: nn.Module) -> float:
        return 0.0


class PlainHost:
    """Plain torch, for tests, scripts and servers: everything stays on one device.

    No streaming and no LoRA. ``cancelled`` is polled at every safe point of an edit.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        *,
        cancelled: Callable[[], bool] = lambda: False,
        data_folder: Path | None = None,
        run_id: str | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.run_id = run_id or uuid.uuid4().hex
        self._cancelled = cancelled
        self._data_folder = data_folder

    def phase(self, phase: Phase) -> None:
        self.say(phase.text)

    def say(self, text: str) -> None:
        logger.info(text)

    def progress(self, value: int, total: int) -> None:
        logger.debug("%d of %d", value, total)

    def preview(self, estimate: Callable[[], torch.Tensor]) -> None:
        """Nobody looks."""

    def cancelled(self) -> bool:
        return self._cancelled()

    @property
    def data_folder(self) -> Path:
        return self._data_folder or user_data_folder()

    @property
    def settings(self) -> RemoteSettings:
        return RemoteSettings()

    def when_run_ends(self, tell: Callable[[bool], None]) -> None:
        # The caller has what the edit returns.
        tell(True)

    @property
    def total_memory(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory)
        return sys.maxsize

    @property
    def layers(self) -> LayerKit:
        return PlainKit()

    @property
    def tokenizer_folder(self) -> Path | None:
        return None

    def manage(self, module: nn.Module) -> Handle:
        return PlainHandle(module)

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        for handle in handles:
            handle.module.to(self.device)

    @contextmanager
    def borrowed(self, handle: Handle, layer: nn.Module) -> Iterator[None]:
        layer.to(self.device)
        yield

    def add_lora(self, handles: Sequence[Handle], file: Path, strength: float) -> LoraResult:
        raise SetupError("A LoRA needs ComfyUI's LoRA reader.", "Load it inside ComfyUI.")

    def on_free(self, forget: Callable[[], None]) -> None:
        """Memory is the caller's own business."""


def user_data_folder() -> Path:
    """The folder for key file and journal outside ComfyUI: the platform's own place for it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return chosen_data_folder(base / "firered-edit")


def chosen_data_folder(default: Path) -> Path:
    """``default``, unless the operator named a folder in ``FIRERED_DATA_DIR``."""
    return Path(os.environ.get("FIRERED_DATA_DIR") or default)
