"""The most memory that tensors take at one moment, counted without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(module: nn.Module, compute: Callable[[], object]) -> int:
    """Bytes of all tensors alive at the worst moment of ``compute``, the weights not counted.

    Meant for a ``module`` on the meta device. Attention is taken to be fused, as on a GPU: it
    leaves nothing behind but its result.
    """
    with torch.no_grad(), _fused_attention(), _Tracker(module) as tracker:
        compute()
    return tracker.most


@contextmanager
def _fused_attention() -> Iterator[None]:
    """On the meta device attention would be taken apart, with all its weights side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "scaled_dot_product_attention", _result_only)
        yield


def _result_only(query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return torch.empty_like(query)


class _Tracker(TorchDispatchMode):
    """Sees every storage that an operation returns, and when it is let go."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.most = 0
        self._held = 0
        self._weights = {each.untyped_storage()._cdata for each in module.parameters()}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in self._weights:
            return
        self._held += size
        self.most = max(self.most, self._held)
        self._alive[key] = weakref.ref(storage, partial(self._let_go, key, size))

    def _let_go(self, key: int, size: int, _: object) -> None:
        del self._alive[key]
        self._held -= size
