"""Passes of the transformer in fused kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .attention import attending
from .blocks import Branch, FusedBlock, Layout, StreamNorms
from .kernels import Kernels, Turn

if TYPE_CHECKING:
    from ..latents import Tokens


class Stack(nn.Module):
    """All blocks of a pass, under the name that diffusers gives them."""

    def __init__(self, blocks: Sequence[FusedBlock]) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(blocks)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Picture tokens (N, D) after all blocks."""
        for block in self.transformer_blocks:
            encoder_hidden_states, hidden_states = block(hidden_states, encoder_hidden_states)
        return hidden_states


@dataclass(frozen=True)
class _Pass:
    """Branches that go through the blocks together; ``texts`` are theirs, embedded (M, D)."""

    stack: Stack
    texts: Tensor
    branches: int


class FusedPasses:
    """The velocity of every branch, in one pass or one after the other.

    ``groups`` lists the prompt embeddings (1, L, C) of each pass. What does not change from step
    to step is computed once, here.
    """

    def __init__(
        self,
        transformer: Any,
        grid: tuple[int, int],
        references: Sequence[Tokens],
        groups: Sequence[Sequence[Tensor]],
        norms: Sequence[StreamNorms],
        kernels: Kernels,
        before_block: Callable[[], None],
    ) -> None:
        self._transformer = transformer
        self._references = [reference.values for reference in references]
        self._grids = [grid, *(reference.grid for reference in references)]
        self._norms = norms
        self._kernels = kernels
        self._before_block = before_block
        self._passes = [self._pass(group) for group in groups]

    @property
    def stacks(self) -> list[Stack]:
        """The blocks of each pass."""
        return [each.stack for each in self._passes]

    def __call__(self, latents: Tensor, time: Tensor) -> list[Tensor]:
        """The velocity (1, T, 64) of each branch for ``latents`` (1, T, 64) at ``time`` (1,)."""
        transformer = self._transformer
        embedding = transformer.time_text_embed(time, latents)
        tokens = transformer.img_in(torch.cat([latents, *self._references], dim=1))[0]
        velocities = []
        with attending(latents.device):
            for each in self._passes:
                found = each.stack(tokens.repeat(each.branches, 1), each.texts)
                own = found.unflatten(0, (each.branches, -1))[:, : latents.shape[1]]
                velocities += transformer.proj_out(transformer.norm_out(own, embedding)).split(1)
        return velocities

    def _pass(self, group: Sequence[Tensor]) -> _Pass:
        transformer = self._transformer
        texts = [transformer.txt_in(transformer.txt_norm(text))[0] for text in group]
        layout = self._layout([len(text) for text in texts], texts[0].device)
        blocks = [
            FusedBlock(block, norms, layout, self._kernels, self._before_block)
            for block, norms in zip(transformer.transformer_blocks, self._norms, strict=True)
        ]
        return _Pass(Stack(blocks), torch.cat(texts), len(texts))

    def _layout(self, lengths: Sequence[int], device: torch.device) -> Layout:
        shapes = [(1, rows, columns) for rows, columns in self._grids]
        counts = [rows * columns for rows, columns in self._grids]
        images, texts = self._transformer.pos_embed(
            [shapes], max_txt_seq_len=max(lengths), device=device
        )
        ends = accumulate(lengths, initial=0)
        branches = [
            Branch(
                text=slice(start, end),
                image=slice(index * sum(counts), (index + 1) * sum(counts)),
                text_at=_turn(texts[: end - start]),
            )
            for index, (start, end) in enumerate(pairwise(ends))
        ]
        return Layout(branches, _turn(images), self._at_zero(counts, len(lengths), device))

    def _at_zero(self, counts: Sequence[int], branches: int, device: torch.device) -> Tensor | None:
        if not self._transformer.zero_cond_t:
            return None
        one = torch.arange(sum(counts), device=device) >= counts[0]
        return one.repeat(branches)[:, None]


def _turn(frequencies: Tensor) -> Turn:
    """Complex (N, d / 2) of modulus one, in real numbers."""
    return Turn(frequencies.real.contiguous(), frequencies.imag.contiguous())
