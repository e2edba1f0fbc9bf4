"""An experiment: keys and values of the references, kept from an earlier step.

Tokens of the references attend to the noisy target, so what they are changes from step to step and
nothing exact can be kept. It may change little: then a step needs only the queries of text and
target, a half to a third of the work. Whether pictures stand it, real weights must tell; no node
offers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local.denoising import (  # noqa: E402 - needs the pack
    Conditions,
    ReferencePasses,
)
from firered_edit.pipeline.local.latents import Tokens  # noqa: E402


class Kept:
    """Keys and values (1, R, H, d) of the references, by block and by branch of guidance."""

    def __init__(self, target: int) -> None:
        self.branch = 0
        self.refreshing = True
        self._target = target
        self._found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def completed(self, block: int, text: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """``key`` and ``value`` of all tokens, text first; of what is missing, the kept ones."""
        place = (block, self.branch)
        if self.refreshing:
            start = text + self._target
            # Copies: a view would keep all tokens alive.
            self._found[place] = (key[:, start:].clone(), value[:, start:].clone())
            return key, value
        kept_key, kept_value = self._found[place]
        return torch.cat([key, kept_key], dim=1), torch.cat([value, kept_value], dim=1)


class KeepingProcessor:
    """Joint attention of a block as diffusers computes it, by way of what is kept."""

    def __init__(self, block: int, kept: Kept) -> None:
        self._block = block
        self._kept = kept

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Parameters are named as diffusers calls them."""
        from diffusers.models.attention_dispatch import dispatch_attention_fn

        assert image_rotary_emb is not None
        assert encoder_hidden_states_mask is None
        assert attention_mask is None
        image_at, text_at = image_rotary_emb
        to_image = (attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k)
        to_text = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        text_norms = (attn.norm_added_q, attn.norm_added_k)
        of_image = _heads(attn, hidden_states, to_image, image_at)
        of_text = _heads(attn, encoder_hidden_states, (*to_text, *text_norms), text_at)
        query, key, value = (torch.cat(pair, dim=1) for pair in zip(of_text, of_image, strict=True))
        length = encoder_hidden_states.shape[1]
        key, value = self._kept.completed(self._block, length, key, value)
        found = dispatch_attention_fn(query, key, value).flatten(2, 3)
        text, image = found[:, :length].contiguous(), found[:, length:].contiguous()
        return attn.to_out[0](image), attn.to_add_out(text)


def _heads(
    attn: Any, tokens: Tensor, layers: tuple[Any, ...], at: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (1, N, H, d), turned to the positions of the first N."""
    from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen

    to_q, to_k, to_v, norm_q, norm_k = layers
    query, key, value = (
        layer(tokens).unflatten(-1, (attn.heads, -1)) for layer in (to_q, to_k, to_v)
    )
    places = at[: tokens.shape[1]]
    return (
        apply_rotary_emb_qwen(norm_q(query), places, use_real=False),
        apply_rotary_emb_qwen(norm_k(key), places, use_real=False),
        value,
    )


class ReusingPasses(ReferencePasses):
    """The passes of one picture; at the steps that ``refreshes`` names, whole ones."""

    def __init__(
        self,
        transformer: Any,
        noise: Tokens,
        conditions: Conditions,
        kept: Kept,
        refreshes: Callable[[int], bool],
    ) -> None:
        super().__init__(transformer, noise, conditions)
        self._all_references = self._references
        self._kept = kept
        self._refreshes = refreshes
        self._step = 0

    def __call__(self, latents: Tensor, time: Tensor) -> list[Tensor]:
        """The velocity of each branch, as the engine's own passes give it."""
        self._kept.refreshing = self._refreshes(self._step)
        self._step += 1
        # Not their shapes: the text's positions follow the largest picture all the same.
        self._references = self._all_references if self._kept.refreshing else []
        velocities = []
        for branch, prompt in enumerate(self._prompts):
            self._kept.branch = branch
            velocities.append(self._pass(latents, time, prompt))
        return velocities


@contextmanager
def reusing(
    transformer: Any, noise: Tokens, conditions: Conditions, refreshes: Callable[[int], bool]
) -> Iterator[ReusingPasses]:
    """Within this context ``transformer`` keeps keys and values; then it is as before."""
    if transformer.zero_cond_t:
        raise ValueError("references with a time of their own are not part of this experiment")
    kept = Kept(noise.values.shape[1])
    layers: list[Any] = [block.attn for block in transformer.transformer_blocks]
    own = [layer.processor for layer in layers]
    try:
        for number, layer in enumerate(layers):
            layer.processor = KeepingProcessor(number, kept)
        yield ReusingPasses(transformer, noise, conditions, kept, refreshes)
    finally:
        for layer, processor in zip(layers, own, strict=True):
            layer.processor = processor


def every(steps: int) -> Callable[[int], bool]:
    """Refresh at the first of every ``steps`` steps."""
    return lambda step: step % steps == 0


def refresh_count(refreshes: Callable[[int], bool], steps: int) -> int:
    return sum(map(refreshes, range(steps)))
