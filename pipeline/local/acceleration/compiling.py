"""Kernels compiled once for every size of picture, length of prompt and number of references.

Only what lies between the linear layers is compiled, so the weights may be wherever the host keeps
them. Torch keeps what it compiled on disk: the next start of the program finds it there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from ...errors import clean
from ...host import LocalHost, Phase
from ..cancelling import check_cancelled
from .kernels import EAGER, Heads, Kernels, Norms, Turn, add, attended, join, modulate

logger = logging.getLogger(__name__)

PHASE = Phase("preparing faster kernels, once")

REASON_LENGTH = 120


@dataclass(frozen=True)
class Shapes:
    """What kernels are compiled for; all else may change from edit to edit."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    head_dim: int
    two_times: bool


_compiled: dict[Shapes, Kernels] = {}
_lock = Lock()


def kernels_for(shapes: Shapes, host: LocalHost, compiles: bool | None = None) -> Kernels:
    """Compiled kernels, made at their first use; eager ones where this machine has no compiler.

    By default they are compiled on GPUs only: on a CPU that takes a minute and gains little.
    """
    wanted = shapes.device.type == "cuda" if compiles is None else compiles
    if not wanted:
        return EAGER
    with _lock:
        if shapes not in _compiled:
            host.phase(PHASE)
            _compiled[shapes] = _compile(shapes, host)
        return _compiled[shapes]


def forget() -> None:
    """Let go of all compiled kernels, as a new process begins."""
    with _lock:
        _compiled.clear()


def _compile(shapes: Shapes, host: LocalHost) -> Kernels:
    found: dict[str, Callable[..., Any]] = {}
    samples = _Samples(shapes)
    for function, calls in samples.calls():
        check_cancelled(host)
        found[function.__name__] = compiled = torch.compile(function, fullgraph=True)
        try:
            for arguments in calls:
                compiled(*arguments)
        except Exception as error:  # noqa: BLE001 - compilers fail in as many ways as machines do
            return _without(error)
    return Kernels(**found, how="compiled")


def _without(error: Exception) -> Kernels:
    """Eager kernels, and the reason for the receipt."""
    logger.warning("FireRed's kernels run uncompiled: compiling failed.", exc_info=error)
    reason = clean(f"{type(error).__name__}: {error}", REASON_LENGTH)
    return replace(EAGER, how=f"eager, since compiling failed: {reason}")


class _Samples:
    """Calls of every kernel, to compile it with.

    The compiler's choices suit sizes like these. Where two counts may differ they differ here, and
    every count is marked as one that changes.
    """

    IMAGE, TEXT = 4096, 320

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def calls(self) -> Iterator[tuple[Callable[..., Any], list[tuple[Any, ...]]]]:
        """Each function, and the arguments of every kind of call that an edit makes of it."""
        yield modulate, [(tokens, *rows) for tokens, rows in self._streams()]
        yield join, [self._joint()]
        yield attended, [(tokens, self._like(tokens), *rows) for tokens, rows in self._streams()]
        yield add, [(tokens, self._like(tokens), *rows) for tokens, rows in self._streams()]

    def _streams(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor | None]]]:
        width = self._shapes.heads * self._shapes.head_dim
        yield self._new(self.TEXT, width), (self._new(1, 6 * width, fixed=True), None)
        if self._shapes.two_times:
            at_zero = self._new(self.IMAGE, 1) > 0
            rows = self._new(2, 6 * width, fixed=True)
            yield self._new(self.IMAGE, width), (rows, _counted(at_zero))

    def _joint(self) -> tuple[Any, ...]:
        shapes = self._shapes
        text, image = (
            Heads(*(self._new(count, shapes.heads, shapes.head_dim) for _ in range(3)))
            for count in (self.TEXT, self.IMAGE)
        )
        # Two of everything: a compiler notes where two arguments are one.
        text_norms, image_norms = (
            Norms(*(self._new(shapes.head_dim, fixed=True) for _ in range(2))) for _ in range(2)
        )
        text_at, image_at = (
            Turn(*(self._new(count, shapes.head_dim // 2, dtype=torch.float32) for _ in range(2)))
            for count in (self.TEXT, self.IMAGE)
        )
        return text, image, text_norms, image_norms, text_at, image_at

    def _like(self, tokens: Tensor) -> Tensor:
        return self._new(*tokens.shape)

    def _new(self, *shape: int, dtype: torch.dtype | None = None, fixed: bool = False) -> Tensor:
        made = torch.randn(shape, device=self._shapes.device, dtype=dtype or self._shapes.dtype)
        return made if fixed else _counted(made)


def _counted(tensor: Tensor) -> Tensor:
    """``tensor``, of which the compiler knows that its first length changes."""
    torch._dynamo.mark_dynamic(tensor, 0)
    return tensor
