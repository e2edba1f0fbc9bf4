"""Cancel, remembered for the whole run it was pressed in.

ComfyUI's interrupt is one flag for the process, and whoever raises it first clears it: a sampler
node does so before an edit on fal could look. So the press itself is noticed, and remembered by the
run it was meant for; every node and every element of a list then sees it, and no later run does.
"""

from __future__ import annotations

from collections import deque

import comfy.model_management
from server import PromptServer

from .noticing import notice

# Bounded: runs of long ago never come back.
_cancelled_runs: deque[str] = deque(maxlen=64)


def is_current(run_id: str) -> bool:
    """Whether ComfyUI is executing this run now; a remote edit may outlive its run."""
    return bool(PromptServer.instance.last_prompt_id == run_id)


def is_cancelled(run_id: str) -> bool:
    """Whether Cancel was pressed while ``run_id`` was the current run."""
    if is_current(run_id) and comfy.model_management.processing_interrupted():
        remember_cancel(run_id)
    return run_id in _cancelled_runs


def remember_cancel(run_id: str) -> None:
    if run_id not in _cancelled_runs:
        _cancelled_runs.append(run_id)


def notice_presses() -> None:
    """From now on every press of Cancel is noticed the moment ComfyUI takes it."""
    notice("interrupt_current_processing", _pressed)


def _pressed(value: bool = True) -> None:
    if value:
        remember_cancel(PromptServer.instance.last_prompt_id)
