"""The sizes a benchmark runs at: the published model's, or a proxy that a CPU can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["40 steps, guidance", "30 steps, guidance", "8 steps, no guidance"]
KINDS: tuple[Kind, ...] = ("40 steps, guidance", "30 steps, guidance", "8 steps, no guidance")

GUIDANCE: dict[Kind, float] = {KINDS[0]: 4.0, KINDS[1]: 4.0, KINDS[2]: 1.0}

VISION_HEAD_WIDTH = 80
TEXT_HEAD_WIDTH = 128


@dataclass(frozen=True)
class Scale:
    """``side`` is that of the target and of every reference, in pixels.

    ``steps`` are those of an edit by kind; ``sampled`` are run where the time of a step does not
    depend on how many there are, and the rest is extrapolated. ``matrix`` is the side of the
    product that the device's rate is measured with.
    """

    title: str
    side: int
    layers: int
    heads: int
    head_dim: int
    text_width: int
    text_layers: int
    vision_width: int
    vision_layers: int
    vae_dim: int
    vocabulary: int
    steps: Mapping[Kind, int]
    sampled: int
    matrix: int

    @property
    def transformer(self) -> dict[str, Any]:
        """The configuration of diffusers' class."""
        head = self.head_dim
        return {
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": self.layers,
            "attention_head_dim": head,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.text_width,
            "guidance_embeds": False,
            "axes_dims_rope": (head // 8, head * 7 // 16, head * 7 // 16),
            "zero_cond_t": False,
        }

    def encoder(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        """The configuration of Qwen2.5-VL; ``tokens`` are the ids of its control words."""
        return {
            "text_config": self._text(tokens),
            "vision_config": self._vision(),
            "tie_word_embeddings": False,
            **tokens,
        }

    def _text(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        heads = self.text_width // TEXT_HEAD_WIDTH
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.text_width,
            "intermediate_size": 18944 * self.text_width // 3584,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 7),
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [16, 24, 24],
            },
            **{key: tokens[key] for key in ("bos_token_id", "eos_token_id")},
        }

    def _vision(self) -> dict[str, Any]:
        return {
            "depth": self.vision_layers,
            "hidden_size": self.vision_width,
            "intermediate_size": 3420 * self.vision_width // 1280,
            "num_heads": self.vision_width // VISION_HEAD_WIDTH,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [*range(7, self.vision_layers, 8)],
            "out_hidden_size": self.text_width,
        }


FULL = Scale(
    title="Full size, random weights, one megapixel",
    side=1024,
    layers=60,
    heads=24,
    head_dim=128,
    text_width=3584,
    text_layers=28,
    vision_width=1280,
    vision_layers=32,
    vae_dim=96,
    vocabulary=152064,
    steps={KINDS[0]: 40, KINDS[1]: 30, KINDS[2]: 8},
    sampled=5,
    matrix=8192,
)

PROXY = Scale(
    title="Scaled-down proxy on a CPU: it says that everything runs, and little of a GPU",
    side=256,
    layers=10,
    heads=3,
    head_dim=128,
    text_width=512,
    text_layers=3,
    vision_width=160,
    vision_layers=8,
    vae_dim=8,
    vocabulary=2048,
    steps={KINDS[0]: 12, KINDS[1]: 10, KINDS[2]: 8},
    sampled=3,
    matrix=2048,
)

TINY = Scale(
    title="Tiny, for tests",
    side=64,
    layers=2,
    heads=2,
    head_dim=32,
    text_width=256,
    text_layers=2,
    vision_width=160,
    vision_layers=8,
    vae_dim=8,
    vocabulary=2048,
    steps={KINDS[0]: 3, KINDS[1]: 2, KINDS[2]: 2},
    sampled=2,
    matrix=64,
)
