"""What a transformer block does between its linear layers, one function per pass over memory.

Eager torch runs each of these as a dozen kernels that read and write every token; compiled, each is
one or two. Tokens lie in rows (N, D), heads in (N, H, d). ``rows`` holds the six modulation vectors
of a stream, (1, 6 * D), or (2, 6 * D) where tokens marked in ``at_zero`` (N, 1) are modulated as at
timestep zero and take the second of two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6
"""Of every norm in the transformer's blocks."""


class Heads(NamedTuple):
    """Queries, keys and values, each (N, H, d)."""

    query: Tensor
    key: Tensor
    value: Tensor


class Turn(NamedTuple):
    """Rotary positions of N tokens: cosine and sine of each pair's angle, (N, d / 2) in fp32."""

    cos: Tensor
    sin: Tensor


class Norms(NamedTuple):
    """Weights (d) of the norms of queries and keys."""

    query: Tensor
    key: Tensor


@dataclass(frozen=True)
class Kernels:
    """The functions below, as they are or compiled; ``how`` is what a receipt says."""

    modulate: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    join: Callable[[Heads, Heads, Norms, Norms, Turn, Turn], Heads]
    attended: Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
    add: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    how: str


def modulate(tokens: Tensor, rows: Tensor, at_zero: Tensor | None) -> Tensor:
    """The input of attention."""
    return _shifted(tokens, _vector(rows, 0, at_zero), _vector(rows, 1, at_zero))


def join(
    text: Heads, image: Heads, text_norms: Norms, image_norms: Norms, text_at: Turn, image_at: Turn
) -> Heads:
    """Both streams as attention takes them, text first: normed and turned to their positions."""
    query = _joined(text.query, image.query, text_norms.query, image_norms.query, text_at, image_at)
    key = _joined(text.key, image.key, text_norms.key, image_norms.key, text_at, image_at)
    return Heads(query, key, torch.cat([text.value, image.value]))


def attended(
    tokens: Tensor, attention: Tensor, rows: Tensor, at_zero: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The tokens after attention, and what the feed-forward layers take of them."""
    tokens = tokens + _vector(rows, 2, at_zero) * attention
    return tokens, _shifted(tokens, _vector(rows, 3, at_zero), _vector(rows, 4, at_zero))


def add(tokens: Tensor, forwarded: Tensor, rows: Tensor, at_zero: Tensor | None) -> Tensor:
    """The tokens after the feed-forward layers."""
    return tokens + _vector(rows, 5, at_zero) * forwarded


EAGER = Kernels(modulate, join, attended, add, "eager")


def _shifted(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normed = functional.layer_norm(tokens, tokens.shape[-1:], eps=EPS)
    return normed * (1 + scale) + shift


def _vector(rows: Tensor, index: int, at_zero: Tensor | None) -> Tensor:
    """(1, D), or (N, D) where tokens differ."""
    vectors = rows.view(len(rows), 6, -1)[:, index]
    return vectors if at_zero is None else torch.where(at_zero, vectors[1:], vectors[:1])


def _joined(
    text: Tensor,
    image: Tensor,
    text_norm: Tensor,
    image_norm: Tensor,
    text_at: Turn,
    image_at: Turn,
) -> Tensor:
    return torch.cat([_turned(text, text_norm, text_at), _turned(image, image_norm, image_at)])


def _turned(heads: Tensor, norm: Tensor, at: Turn) -> Tensor:
    """Rotary embedding in real numbers: compilers do not fuse complex ones."""
    normed = functional.rms_norm(heads, heads.shape[-1:], norm, EPS)
    first, second = normed.float().view(*heads.shape[:-1], -1, 2).unbind(-1)
    cos, sin = at.cos[:, None], at.sin[:, None]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2).to(heads.dtype)
