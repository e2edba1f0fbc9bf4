"""What a quantised layer's tensors must measure, before a product finds out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

Allowed = set[tuple[int, ...]]

PARTS = ("weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
"""What a layer may hold, besides its bias, which is as long as in any other."""

_TILE = (128, 4)
"""Block scales are stored in whole tiles of so many rows and columns."""


def check_sizes(form: str, rows: int, columns: int, stored: Mapping[str, Tensor | None]) -> None:
    """Raise ``ValueError`` where ``stored``, by part, is of no layer (rows, columns) in ``form``.

    What ComfyUI computes with a scale of another shape is an error deep inside, or another weight.
    """
    if form not in _WEIGHTS:
        return
    one = _single(rows, columns)
    scales = _SCALES.get(form, _single)(rows, columns)
    allowed: tuple[Allowed, ...] = ({_WEIGHTS[form](rows, columns)}, scales, one, one, {(columns,)})
    for part, shapes in zip(PARTS, allowed, strict=True):
        tensor = stored.get(part)
        if tensor is not None and tuple(tensor.shape) not in shapes:
            shape = tuple(tensor.shape)
            raise ValueError(f"a layer {rows}x{columns} in {form} has a {part} of {shape}")
    scale = stored.get("weight_scale")
    if form in _BLOCKED and scale is not None and scale.element_size() != 1:
        raise ValueError(f"a layer in {form} has a weight_scale of {scale.dtype}")


def _whole(rows: int, columns: int) -> tuple[int, ...]:
    return rows, columns


def _padded(side: int, to: int) -> int:
    return math.ceil(side / to) * to


def _nvfp4(rows: int, columns: int) -> tuple[int, ...]:
    # Two numbers share a byte.
    return _padded(rows, 16), _padded(columns, 16) // 2


def _mxfp8(rows: int, columns: int) -> tuple[int, ...]:
    return _padded(rows, 32), _padded(columns, 32)


_WEIGHTS: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "float8_e4m3fn": _whole,
    "float8_e5m2": _whole,
    "int8_tensorwise": _whole,
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
}


def _single(_rows: int, _columns: int) -> Allowed:
    return {(), (1,), (1, 1)}


def _for_rows(rows: int, columns: int) -> Allowed:
    return {*_single(rows, columns), (rows, 1)}


def _blocks(length: int) -> Callable[[int, int], Allowed]:
    """One scale for each ``length`` numbers of a row."""

    def allowed(rows: int, columns: int) -> Allowed:
        across = math.ceil(_padded(columns, length) / length)
        return {(_padded(rows, _TILE[0]), _padded(across, _TILE[1]))}

    return allowed


_BLOCKED = ("nvfp4", "mxfp8")
"""Their scales are numbers of 8 bits, whatever they are declared as."""

_SCALES: dict[str, Callable[[int, int], Allowed]] = {
    "int8_tensorwise": _for_rows,
    "nvfp4": _blocks(16),
    "mxfp8": _blocks(32),
}
