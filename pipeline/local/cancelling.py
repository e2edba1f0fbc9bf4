"""Cancel between blocks, not only between steps: one step can take seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ..errors import EditCancelled
from ..host import Reporter


def check_cancelled(host: Reporter) -> None:
    """Raise ``EditCancelled`` if the artist pressed Cancel."""
    if host.cancelled():
        raise EditCancelled


@contextmanager
def cancel_points(modules: Iterable[nn.Module], host: Reporter) -> Iterator[None]:
    """Within this context no block of ``modules`` starts once the artist has cancelled."""

    def before(_module: nn.Module, _arguments: Any) -> None:
        check_cancelled(host)

    with ExitStack() as stack:
        for module in modules:
            for block in _blocks(module):
                stack.callback(block.register_forward_pre_hook(before).remove)
        yield


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of every module list: transformer blocks, encoder layers, VAE stages."""
    for child in module.modules():
        if isinstance(child, nn.ModuleList):
            yield from child
