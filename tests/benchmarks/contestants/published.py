"""FireRed's published fast path, rebuilt from the public packages that it names.

int8 weights of optimum-quanto, cache-dit's step caching with the published settings, and the
transformer's blocks compiled. The published script compiles the VAE as well, which has no effect
(its encode and decode are not its forward), and cuts it into tiles of 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.contestants.stock import Stock
from benchmarks.task import Done, Precision, Task
from benchmarks.weights import Weights
from firered_edit.pipeline.local.acceleration.caching import quieten

PACKAGES = {"optimum.quanto": "optimum-quanto==0.2.7", "cache_dit": "cache-dit==1.5.3"}

FIRST_BLOCKS = 8
THRESHOLD = 0.15
TILE = 256


def missing() -> list[str]:
    """What pip calls the packages that are not here."""
    return [wanted for module, wanted in PACKAGES.items() if not found(module)]


def found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


class Published(Stock):
    """The stock pipeline, quantised, cached and compiled."""

    name = "FireRed's fast path"
    precision: Precision = "8-bit"
    whole = True

    def __init__(self, weights: Weights, compiles: bool) -> None:
        super().__init__(weights)
        self._compiles = compiles
        transformer = self.pipeline.transformer
        _quantise(transformer)
        if compiles:
            transformer.compile_repeated_blocks(dynamic=True)
        self.pipeline.vae.enable_tiling(TILE, TILE)

    @torch.inference_mode()
    def edit(self, task: Task, on_step: Callable[[], None]) -> Done:
        _cache(self.pipeline, task.steps)
        try:
            return super().edit(task, on_step)
        finally:
            import cache_dit

            cache_dit.disable_cache(self.pipeline)

    def said(self) -> dict[str, Any]:
        import cache_dit

        (found, *_) = cache_dit.summary(self.pipeline, logging=False)
        return {
            "kernels": "compiled blocks" if self._compiles else "not compiled",
            "approximation": f"{len(found.cached_steps)} steps left out",
        }


def _quantise(transformer: Any) -> None:
    from optimum.quanto import freeze, qint8, quantize

    quantize(transformer, weights=qint8)
    freeze(transformer)


def _cache(pipeline: Any, steps: int) -> None:
    import cache_dit

    quieten()
    blocks = len(pipeline.transformer.transformer_blocks)
    cache_dit.enable_cache(
        pipeline,
        cache_config=cache_dit.DBCacheConfig(
            Fn_compute_blocks=min(FIRST_BLOCKS, blocks - 1),
            Bn_compute_blocks=0,
            residual_diff_threshold=THRESHOLD,
            num_inference_steps=steps,
        ),
        calibrator_config=cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=1),
    )
