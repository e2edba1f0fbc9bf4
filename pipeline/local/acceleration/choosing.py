"""How the passes of an edit are made: what was asked for, and what a receipt says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..cancelling import check_cancelled
from ..denoising import Conditions, Passes, ReferencePasses
from .attention import describe_attention
from .blocks import StreamNorms
from .caching import StepCache, describe_recipe
from .compiling import Shapes, kernels_for
from .kernels import Kernels, Norms
from .passes import FusedPasses

if TYPE_CHECKING:
    from torch import Tensor

    from ...request import EditRequest
    from ..bench import Bench
    from ..latents import Tokens


@dataclass(frozen=True)
class _Fused:
    """What all pictures of an edit share."""

    kernels: Kernels
    norms: list[StreamNorms]


class Acceleration:
    """Makes the passes for each picture of an edit, as its request asks.

    ``paired`` is whether both branches of guidance go through the transformer together;
    ``compiles`` overrides where kernels are compiled.
    """

    def __init__(
        self, bench: Bench, request: EditRequest, paired: bool, compiles: bool | None = None
    ) -> None:
        self._model, self._host = bench.model, bench.host
        self._transformer: Any = bench.model.transformer.module
        self._request = request
        self._paired = paired
        self._compiles = compiles
        self._fused: _Fused | None = None
        self._left_out = 0

    def prepare(self) -> None:
        """Get ready what all pictures share; the transformer is on the device."""
        if self._request.acceleration != "none":
            self._fused = _Fused(self._kernels(), [*self._norms()])

    @contextmanager
    def passes(self, noise: Tokens, conditions: Conditions) -> Iterator[Passes]:
        """The passes for one picture. What they remember from step to step ends with them."""
        if self._fused is None:
            yield ReferencePasses(self._transformer, noise, conditions)
            return
        fused = FusedPasses(
            self._transformer,
            noise.grid,
            conditions.references,
            self._groups(conditions),
            self._fused.norms,
            self._fused.kernels,
            lambda: check_cancelled(self._host),
        )
        if self._request.acceleration != "high":
            yield fused
            return
        with StepCache(fused.stacks, self._request.num_inference_steps) as cache:
            yield fused
            self._left_out += cache.left_out

    def describe(self) -> dict[str, str]:
        """What a receipt says."""
        if self._fused is None:
            return {"kernels": "reference"}
        said = {
            "kernels": self._fused.kernels.how,
            "attention": describe_attention(self._host.device),
        }
        if self._request.guidance_scale > 1:
            said["guidance"] = "both branches in one pass" if self._paired else "two passes a step"
        if self._request.acceleration == "high":
            steps = self._request.num_images * self._request.num_inference_steps
            said["approximation"] = describe_recipe(self._left_out, steps)
        return said

    def _groups(self, conditions: Conditions) -> list[list[Tensor]]:
        prompts = conditions.prompts
        return [prompts] if self._paired else [[prompt] for prompt in prompts]

    def _kernels(self) -> Kernels:
        config = self._transformer.config
        shapes = Shapes(
            self._host.device,
            self._model.dtype,
            config.num_attention_heads,
            config.attention_head_dim,
            bool(config.zero_cond_t),
        )
        return kernels_for(shapes, self._host, self._compiles)

    def _norms(self) -> Iterator[StreamNorms]:
        for block in self._transformer.transformer_blocks:
            attn = block.attn
            yield StreamNorms(
                text=Norms(self._weight(attn.norm_added_q), self._weight(attn.norm_added_k)),
                image=Norms(self._weight(attn.norm_q), self._weight(attn.norm_k)),
            )

    def _weight(self, norm: Any) -> Tensor:
        """Of a layer that may be patched, or in main memory.

        Copied: compilers tell tensors made in inference mode from others.
        """
        with self._host.borrowed(self._model.transformer, norm):
            weight: Tensor = norm.weight.clone()
            return weight
