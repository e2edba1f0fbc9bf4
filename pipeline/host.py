"""What an engine asks of the program around it, and a plain answer without ComfyUI."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

logger = logging.getLogger(__name__)


class Reporter(Protocol):
    """How an edit talks to the artist while it runs. Every method may be called from any thread."""

    def say(self, text: str) -> None:
        """Show ``text`` as the current phase."""

    def progress(self, value: int, total: int) -> None:
        """Show that ``value`` of ``total`` equal parts are done."""

    def cancelled(self) -> bool:
        """Whether the artist pressed Cancel; stays true for the rest of the run."""


class Handle(Protocol):
    """A module whose place in memory the host decides."""

    @property
    def module(self) -> nn.Module: ...


class LocalHost(Reporter, Protocol):
    """What the local engine needs besides: a device, and somebody who manages its memory."""

    @property
    def device(self) -> torch.device:
        """Where the mathematics runs."""

    def preview(self, estimate: Callable[[], torch.Tensor]) -> None:
        """Show the picture in the making together with the next progress.

        ``estimate`` gives it as normalised latents (1, 16, 1, h, w). It is called only if somebody
        wants to look: it costs a copy from the device.
        """

    def manage(self, module: nn.Module) -> Handle:
        """Put ``module`` under the host's memory management; it stays where it is for now."""

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        """Bring ``handles`` to the device and leave ``activation_bytes`` free beside them."""


class RemoteHost(Reporter, Protocol):
    """What the fal engine needs besides."""

    @property
    def run_id(self) -> str:
        """Names the whole run this edit belongs to: one press of the Run button."""

    @property
    def data_folder(self) -> Path:
        """Where key file and journal live; readable by this user only."""


class PlainHandle:
    """A module that stays wherever it was last moved."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


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

    def manage(self, module: nn.Module) -> Handle:
        return PlainHandle(module)

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        for handle in handles:
            handle.module.to(self.device)


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
