"""Weights packed in llama.cpp's K formats, which the gguf package only unpacks.

Plain rounding to the nearest level: llama.cpp searches for better scales, so its files are a little
nearer to the weights than these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 256
GROUP = 32
"""Weights of Q4_K and Q5_K that share a scale and a least value; in Q6_K sixteen share a scale."""


def pack(weight: Floats, kind: str) -> Bytes:
    """(rows, columns) to (rows, bytes of a row); columns must be a multiple of 256."""
    blocks = weight.astype(np.float32).reshape(-1, BLOCK)
    return KINDS[kind](blocks).reshape(len(weight), -1)


def _q6(blocks: Floats) -> Bytes:
    groups = blocks.reshape(-1, 16, 16)
    wanted = _largest(groups) / 31
    unit = (np.abs(wanted).max(1, keepdims=True) / 127).astype(np.float16)
    scales = np.rint(_divided(wanted, unit)).astype(np.int8)
    steps = unit.astype(np.float32) * scales
    levels = np.clip(np.rint(_divided(groups, steps[..., None])), -32, 31) + 32
    codes = levels.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = codes[:, :, :2] & 15 | (codes[:, :, 2:] & 15) << 4
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = ((codes >> 4) << shifts).sum(2, dtype=np.uint8)
    parts = (low, high, scales.view(np.uint8), unit.view(np.uint8))
    return np.hstack([part.reshape(len(blocks), -1) for part in parts])


def _q4(blocks: Floats) -> Bytes:
    head, codes = _levels(blocks, 15)
    return np.hstack([head, _low(codes)])


def _q5(blocks: Floats) -> Bytes:
    head, codes = _levels(blocks, 31)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    high = ((codes >> 4) << shifts).sum(1, dtype=np.uint8)
    return np.hstack([head, high, _low(codes)])


def _low(codes: Bytes) -> Bytes:
    """Four bits of each code, two neighbouring groups in one run of bytes."""
    pairs = codes.reshape(-1, 4, 2, GROUP) & 15
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(codes), -1)


def _levels(blocks: Floats, most: int) -> tuple[Bytes, Bytes]:
    """The head of every block and its weights' codes (blocks, 8, 32), ``most`` the greatest."""
    groups = blocks.reshape(-1, 8, GROUP)
    least = np.minimum(groups.min(2), 0)
    scale, scale_codes = _six_bits((groups.max(2) - least) / most)
    low, low_codes = _six_bits(-least)
    steps = scale.astype(np.float32) * scale_codes
    offsets = low.astype(np.float32) * low_codes
    codes = np.rint(_divided(groups + offsets[..., None], steps[..., None])).clip(0, most)
    head = np.hstack([scale.view(np.uint8), low.view(np.uint8), _scales(scale_codes, low_codes)])
    return head, codes.astype(np.uint8)


def _six_bits(values: Floats) -> tuple[Any, Bytes]:
    """A unit in half precision for every block, and its eight values as codes of six bits."""
    unit = (values.max(1, keepdims=True) / 63).astype(np.float16)
    return unit, np.rint(_divided(values, unit)).clip(0, 63).astype(np.uint8)


def _scales(scales: Bytes, least: Bytes) -> Bytes:
    """Sixteen codes of six bits in twelve bytes."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = least[:, :4] | (least[:, 4:] >> 4) << 6
    return np.hstack([first, second, scales[:, 4:] & 15 | (least[:, 4:] & 15) << 4])


def _largest(groups: Floats) -> Floats:
    return np.abs(groups).max(2)


def _divided(values: Floats, by: Any) -> Floats:
    by = by.astype(np.float32)
    return np.divide(values, by, out=np.zeros_like(values), where=by != 0)


KINDS: dict[str, Callable[[Floats], Bytes]] = {"Q6_K": _q6, "Q5_K": _q5, "Q4_K": _q4}
