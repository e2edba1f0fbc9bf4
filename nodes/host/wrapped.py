"""Layers whose weights are tensors in a wrapper: quantised or packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class WrappedWeights:
    """Mixed into a layer, lets it move by exchanging its parameters.

    Torch writes into them, which wrappers do not bear. ComfyUI moves layers in inference mode and
    outside of it, also to where they are already; what does not move keeps its parameter.
    """

    _parameters: dict[str, nn.Parameter | None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            moved = fn(parameter)
            if moved.is_inference() and not torch.is_inference_mode_enabled():
                moved = moved.clone()
            if moved is not parameter:
                self._parameters[name] = nn.Parameter(moved, requires_grad=False)
        return self
