"""A transformer block in fused kernels, over the linear layers of the model's own block.

One pass may hold several branches, such as the conditional and the unconditional one. They share
every linear layer, so that weights which are streamed, unpacked or patched are so once for all;
only in attention does each see its own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import attend
from .kernels import Heads, Kernels, Norms, Turn


@dataclass(frozen=True)
class Branch:
    """Where a branch's tokens lie among those of the pass, and their positions."""

    text: slice
    image: slice
    text_at: Turn


@dataclass(frozen=True)
class Layout:
    """The branches of a pass. All have the same pictures.

    ``at_zero`` (N, 1) marks the picture tokens modulated as at timestep zero, where there are any.
    """

    branches: Sequence[Branch]
    image_at: Turn
    at_zero: Tensor | None


@dataclass(frozen=True)
class StreamNorms:
    """Weights of a block's norms, on the device."""

    text: Norms
    image: Norms


class FusedBlock(nn.Module):
    """Gives what the model's own ``block`` gives, but for rounding.

    ``before`` is called as it starts, and may raise.
    """

    def __init__(
        self,
        block: Any,
        norms: StreamNorms,
        layout: Layout,
        kernels: Kernels,
        before: Callable[[], None],
    ) -> None:
        super().__init__()
        # As a list: the block belongs to the host's module, not to this one.
        self._own = [block]
        self._norms = norms
        self._layout = layout
        self._kernels = kernels
        self._before = before

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Text (M, D) and picture tokens (N, D) of all branches; the other way round come in.

        The names and their order are those of diffusers' blocks.
        """
        self._before()
        (block,) = self._own
        kernels, at_zero = self._kernels, self._layout.at_zero
        image_rows, text_rows = block.img_mod.value, block.txt_mod.value
        text, image = self._attention(
            block.attn,
            kernels.modulate(encoder_hidden_states, text_rows, None),
            kernels.modulate(hidden_states, image_rows, at_zero),
        )
        text, text_in = kernels.attended(encoder_hidden_states, text, text_rows, None)
        image, image_in = kernels.attended(hidden_states, image, image_rows, at_zero)
        text = kernels.add(text, _forwarded(block.txt_mlp, text_in), text_rows, None)
        image = kernels.add(image, _forwarded(block.img_mlp, image_in), image_rows, at_zero)
        return text, image

    def _attention(self, attn: Any, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        of_text = [layer(text) for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)]
        of_image = [layer(image) for layer in (attn.to_q, attn.to_k, attn.to_v)]
        texts, images = [], []
        for branch in self._layout.branches:
            joint = self._kernels.join(
                _heads(of_text, branch.text, attn.heads),
                _heads(of_image, branch.image, attn.heads),
                self._norms.text,
                self._norms.image,
                branch.text_at,
                self._layout.image_at,
            )
            found = attend(joint)
            length = branch.text.stop - branch.text.start
            texts.append(found[:length])
            images.append(found[length:])
        return attn.to_add_out(_together(texts)), attn.to_out[0](_together(images))


def _heads(parts: Sequence[Tensor], own: slice, heads: int) -> Heads:
    return Heads(*(part[own].view(own.stop - own.start, heads, -1) for part in parts))


def _together(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _forwarded(layers: Any, tokens: Tensor) -> Tensor:
    """The feed-forward layers of diffusers, whose activation is one kernel as it is."""
    widened = functional.gelu(layers.net[0].proj(tokens), approximate="tanh")
    result: Tensor = layers.net[2](widened)
    return result
