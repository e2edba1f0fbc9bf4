"""Joint attention through the kernels that come with torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from .kernels import Heads

_NAMES = {
    SDPBackend.CUDNN_ATTENTION: "cuDNN",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient",
    SDPBackend.MATH: "plain",
}

_CUDNN_FIRST = 9
"""The compute capability from which cuDNN's attention is the faster: Hopper and later."""


def backends(device: torch.device) -> list[SDPBackend]:
    """In the order they are tried. Empty where torch has one way only.

    SageAttention is never among them: with this model it has a record of black pictures.
    """
    if device.type != "cuda":
        return []
    order = list(_NAMES)
    major, _ = torch.cuda.get_device_capability(device)
    if torch.version.hip or major < _CUDNN_FIRST:
        order.remove(SDPBackend.CUDNN_ATTENTION)
    return order


@contextmanager
def attending(device: torch.device) -> Iterator[None]:
    """Within this context attention takes the fastest kernel of ``device``."""
    order = backends(device)
    if not order:
        yield
        return
    with sdpa_kernel(order, set_priority=True):
        yield


def describe_attention(device: torch.device) -> str:
    """What a receipt says."""
    order = backends(device)
    return _NAMES[order[0]] if order else "torch's own"


def attend(heads: Heads) -> Tensor:
    """(N, H * d) of every token's attention to all of them."""
    query, key, value = (part.transpose(0, 1)[None] for part in heads)
    found = functional.scaled_dot_product_attention(query, key, value)
    return found[0].transpose(0, 1).flatten(1)
