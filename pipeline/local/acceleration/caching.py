"""Steps left out where little would change: FireRed's own recipe for its published fast path.

The first blocks of every step are computed. Where their contribution differs little from that of
the last whole step, the other blocks are taken to contribute what they did then. An approximation:
it changes the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Self

from ...errors import MissingPackageError
from .passes import Stack

PACKAGE = "cache-dit"

FIRST_BLOCKS = 8
THRESHOLD = 0.15
"""Relative difference below which a step is left out."""

WARM_UP = 8
"""Steps that are always whole: they lay out the picture."""


def check_installed() -> None:
    """Raise where the package that carries the recipe out is missing."""
    if find_spec("cache_dit") is None:
        raise MissingPackageError(
            f"acceleration high needs the package {PACKAGE}.",
            f"Run: pip install {PACKAGE}, then restart ComfyUI. Or choose regular.",
        )


class StepCache:
    """The recipe at work on the blocks of one picture, within a context; then nothing is left."""

    def __init__(self, stacks: Sequence[Stack], steps: int) -> None:
        self._stacks = stacks
        self._steps = steps
        self._adapters: list[Any] = []

    def __enter__(self) -> Self:
        self._adapters = [_cached(stack, self._steps) for stack in self._stacks]
        return self

    def __exit__(self, *_: object) -> None:
        import cache_dit

        for adapter in self._adapters:
            cache_dit.disable_cache(adapter)

    @property
    def left_out(self) -> int:
        """Steps left out so far; of several passes, the mean."""
        import cache_dit

        counts = [
            len(cache_dit.summary(adapter, logging=False)[0].cached_steps)
            for adapter in self._adapters
        ]
        return round(sum(counts) / len(counts))


def describe_recipe(left_out: int, steps: int) -> str:
    """What a receipt says."""
    return (
        f"{left_out} of {steps} steps left out after the first {FIRST_BLOCKS} blocks "
        f"(difference below {THRESHOLD:g}, never in the first {WARM_UP} steps)"
    )


def quieten() -> None:
    """Keep the package from telling of every block and setting, through loggers of its own."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("cache_dit."):
            logging.getLogger(name).setLevel(logging.ERROR)


def _cached(stack: Stack, steps: int) -> Any:
    import cache_dit

    quieten()
    adapter = cache_dit.BlockAdapter(
        transformer=stack,
        blocks=stack.transformer_blocks,
        forward_pattern=cache_dit.ForwardPattern.Pattern_1,
        check_forward_pattern=True,
        has_separate_cfg=False,
    )
    settings = cache_dit.DBCacheConfig(
        Fn_compute_blocks=min(FIRST_BLOCKS, len(stack.transformer_blocks) - 1),
        Bn_compute_blocks=0,
        residual_diff_threshold=THRESHOLD,
        max_warmup_steps=WARM_UP,
        enable_separate_cfg=False,
        num_inference_steps=steps,
    )
    cache_dit.enable_cache(adapter, cache_config=settings)
    return adapter
