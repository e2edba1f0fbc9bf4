"""Makes the contestants that were chosen; who cannot take part says why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.contestants import published
from benchmarks.contestants.ours import Ours
from benchmarks.contestants.stock import Stock
from benchmarks.hosting import (
    ComfyBenchHost,
    Home,
    PlainBenchHost,
    eight_bit,
    load_model,
    make_host,
)
from benchmarks.task import Contestant, Precision
from benchmarks.weights import Tensors, Weights
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local.acceleration.caching import PACKAGE  # noqa: E402 - needs the pack
from firered_edit.pipeline.request import ACCELERATIONS, Acceleration  # noqa: E402

logger = logging.getLogger(__name__)

NAMES = (*ACCELERATIONS, "stock", "native", "published")


@dataclass
class Field:
    """Who takes part, who does not and why, and the models that ours share, by precision."""

    host: ComfyBenchHost | PlainBenchHost
    models: dict[Precision, Any]
    contestants: list[Contestant]
    absent: dict[str, str]

    def ours(self, acceleration: Acceleration, precision: Precision) -> Contestant | None:
        """That contestant, where it takes part."""
        wanted = (f"ours, {acceleration}", precision)
        found = [each for each in self.contestants if (each.name, each.precision) == wanted]
        return found[0] if found else None


class Entry:
    """``compiles`` overrides where our kernels and the published path are compiled."""

    def __init__(
        self,
        weights: Weights,
        home: Home,
        folder: Path,
        precisions: Sequence[Precision],
        compiles: bool | None,
    ) -> None:
        self._weights = weights
        self._home = home
        self._precisions = precisions
        self._compiles = compiles
        host = make_host(home, weights.device, folder)
        self._field = Field(host, {}, [], {})

    def field(self, names: Sequence[str]) -> Field:
        """The contestants of ``names``, the stock pipeline first: all others are measured by it."""
        if "stock" in names:
            self._enter("stock diffusers", lambda: Stock(self._weights))
        for precision in self._precisions:
            self._enter_ours([name for name in ACCELERATIONS if name in names], precision)
        if "native" in names:
            for precision in self._precisions:
                self._enter_native(precision)
        if "published" in names and "8-bit" in self._precisions:
            self._enter_published()
        return self._field

    def _enter(self, title: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, if it can; contestants are added to the field."""
        try:
            made = make()
        except torch.OutOfMemoryError:
            self._field.absent[title] = "out of memory"
        except Exception as error:  # the others race, whatever this one lacks
            logger.warning("%s cannot take part", title, exc_info=error)
            self._field.absent[title] = f"{type(error).__name__}: {error}"[:160]
        else:
            if hasattr(made, "edit"):
                self._field.contestants.append(cast(Contestant, made))
            return made
        return None

    def _enter_ours(self, names: Sequence[Acceleration], precision: Precision) -> None:
        host = self._field.host
        storage = "full" if precision == "bf16" else eight_bit(host)
        if storage is None:
            self._field.absent[f"ours, {precision}"] = "needs ComfyUI's kernels"
            return
        title = f"ours, {precision}"
        model = self._enter(title, lambda: load_model(self._weights, host, storage))
        if model is None:
            return
        self._field.models[precision] = model
        for name in names:
            if name == "high" and not published.found("cache_dit"):
                self._field.absent["ours, high"] = f"not installed: pip install {PACKAGE}"
                continue
            ours = partial(Ours, name, model, host, precision, self._compiles)
            self._enter(f"ours, {name}, {precision}", ours)

    def _enter_native(self, precision: Precision) -> None:
        title = f"ComfyUI native, {precision}"
        if self._home == "plain":
            self._field.absent[title] = "ComfyUI cannot be loaded; see README.md"
            return
        from benchmarks.contestants.native import Native

        quantised = None
        if precision == "8-bit":
            model = self._field.models.get("8-bit")
            if model is None:
                self._field.absent[title] = "needs the 8-bit weights of ours"
                return
            quantised = quantised_of(model.transformer.module)
        self._enter(title, lambda: Native(self._weights, quantised))

    def _enter_published(self) -> None:
        title = published.Published.name
        if lacking := published.missing():
            self._field.absent[title] = f"not installed: pip install {' '.join(lacking)}"
            return
        compiles = self._compiles
        if compiles is None:
            compiles = self._weights.device.type == "cuda"
        self._enter(title, lambda: published.Published(self._weights, compiles))


def quantised_of(transformer: Any) -> Tensors:
    """Its quantised layers as ComfyUI's files hold them, modulation left out."""
    stored = transformer.state_dict()
    layers = {key.removesuffix(".comfy_quant") for key in stored if key.endswith(".comfy_quant")}
    return {key: value for key, value in stored.items() if key.rpartition(".")[0] in layers}
