"""What a result was measured on. No names of machines, no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from support.comfyui import VERSION
from support.pack import ROOT

PACKAGES = ("torch", "diffusers", "transformers", "comfy-kitchen", "cache-dit", "optimum-quanto")


def environment(device: torch.device, home: str) -> dict[str, Any]:
    """Versions, device and commit; ``home`` is where ours ran."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": _device(device),
        "driver": _driver() if device.type == "cuda" else "none",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "ComfyUI": _comfyui() if home == "comfyui" else "none: ours ran on plain torch",
        "commit": _commit(),
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    # What this process may use, which in a container is less than the machine has.
    return f"{len(os.sched_getaffinity(0))} cores, no GPU"


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _said(asked).splitlines()[0] if _said(asked) else "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _comfyui() -> str:
    return "named by COMFYUI_PATH" if os.environ.get("COMFYUI_PATH") else VERSION


def _commit() -> str:
    found = _said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]) or "unknown"
    changed = _said(["git", "-C", str(ROOT), "status", "--porcelain"])
    return f"{found} with changes" if changed else found


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
