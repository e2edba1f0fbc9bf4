"""How fast a device multiplies matrices and copies weights: measured once, in under 0.1 s."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

SIDE = 4096
"""Of the matrices multiplied: large enough that starting a product does not count."""

COPIED_BYTES = 64 * 1024**2
ROUNDS = 3


@dataclass(frozen=True)
class Rates:
    """Floating point operations per second in bf16, and bytes per second from main memory."""

    matrix: float
    copy: float


@cache
def device_rates(device: torch.device) -> Rates | None:
    """The rates of ``device``, measured once per process; None where there is no CUDA.

    Leaves the device's queue empty: a measurement waits for what was queued before it.
    """
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        return Rates(_matrix_rate(device), _copy_rate(device))


def _matrix_rate(device: torch.device) -> float:
    left, right = (torch.ones(SIDE, SIDE, dtype=torch.bfloat16, device=device) for _ in range(2))
    result = torch.empty_like(left)
    return 2 * SIDE**3 / _seconds(lambda: torch.mm(left, right, out=result))


def _copy_rate(device: torch.device) -> float:
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    return COPIED_BYTES / _seconds(lambda: target.copy_(source, non_blocking=True))


def _seconds(work: Callable[[], object]) -> float:
    """The median time of ``work`` on the device, after one round that is not counted."""
    work()
    return statistics.median(_one_round(work) for _ in range(ROUNDS))


def _one_round(work: Callable[[], object]) -> float:
    events: Any = torch.cuda.Event  # has no types
    start, end = (events(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000
