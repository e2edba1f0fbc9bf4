"""The three networks of FireRed, recognised by what their files hold.

Single files carry no configuration, so it is inferred from the names and shapes of their tensors.
What shapes cannot tell is the same in the whole family, and stands here as constants: those of the
published configurations of Qwen-Image and Qwen2.5-VL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BrokenModelError
from .checkpoints import Checkpoint, check_layout, weight_keys

FAMILY = "FireRed-Image-Edit"

PATCH = 2
TEXT_HEAD_WIDTH = 128
VISION_HEAD_WIDTH = 80
FULL_ATTENTION_EVERY = 8
"""Of the vision tower's blocks every eighth sees the whole picture, the others a window."""

MODEL_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
ZERO_COND_T = "__index_timestep_zero__"
"""ComfyUI's mark of a transformer whose references are modulated as at timestep zero."""

SCHEDULER = {
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 8192,
    "max_shift": 0.9,
    "shift": 1.0,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
    "use_dynamic_shifting": True,
}
"""How FireRed's own repository configures its scheduler."""

IMAGE_PROCESSOR = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384}
"""How Qwen2.5-VL's own repository configures its picture processor."""


@dataclass(frozen=True)
class Part:
    """One network of the model, ready to be built.

    ``names`` leads from keys of the files to those of the module.
    """

    checkpoint: Checkpoint
    names: Mapping[str, str]
    config: Mapping[str, Any]


def transformer_part(checkpoint: Checkpoint, config: Mapping[str, Any] | None = None) -> Part:
    """The diffusion transformer. Raises ``BrokenModelError`` for another family."""
    prefix = next(
        (p for p in MODEL_PREFIXES if any(key.startswith(p) for key in checkpoint.entries)), ""
    )
    own = (key for key in weight_keys(checkpoint) if key.startswith(prefix))
    names = {key: key.removeprefix(prefix) for key in own if not key.endswith(ZERO_COND_T)}
    found = _expect(checkpoint, names, "transformer_blocks.0.img_mod.1.weight", "transformer")
    zero_cond_t = any(key.endswith(ZERO_COND_T) for key in checkpoint.entries)
    own_config = _transformer_config(found, zero_cond_t)
    if config is None:
        return Part(checkpoint, names, own_config)
    _check_config(checkpoint, config, own_config)
    return Part(checkpoint, names, config)


def _check_config(
    checkpoint: Checkpoint, config: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    """Raise where ``config`` says otherwise than the shapes: it decides how much memory is taken.

    Only the references' timestep is not told by shapes.
    """
    for name, held in own.items():
        said = config.get(name, held)
        if isinstance(said, list):
            said = tuple(said)
        if name != "zero_cond_t" and said != held:
            raise checkpoint.broken(f"has {name} {said!r:.40} in config.json, its files {held}")


def _transformer_config(found: Checkpoint, zero_cond_t: bool) -> dict[str, Any]:
    width, channels = found.shape("img_in.weight", 2)
    (head,) = found.shape("transformer_blocks.0.attn.norm_q.weight", 1)
    if not head or head % 32:
        raise found.broken(f"has attention heads of {head}")
    return {
        "patch_size": PATCH,
        "in_channels": channels,
        "out_channels": found.shape("proj_out.weight", 2)[0] // PATCH**2,
        "num_layers": _count(found, r"transformer_blocks\.(\d+)\."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": found.shape("txt_norm.weight", 1)[0],
        # An eighth of a head tells the pictures apart, the rest their rows and columns.
        "axes_dims_rope": (head // 8, head * 7 // 16, head * 7 // 16),
        "zero_cond_t": zero_cond_t,
    }


# The encoder is stored under either of two naming schemes: ComfyUI's and old repositories', or that
# of transformers 5.
_ENCODER_NAMES = (
    (re.compile(r"^model\.(language_model|visual)\."), r"\1."),
    (re.compile(r"^model\."), "language_model."),
)


def encoder_part(checkpoint: Checkpoint, config: Mapping[str, Any] | None = None) -> Part:
    """The text encoder, without its language head: an edit needs hidden states, not words."""
    names = {
        key: _encoder_name(key)
        for key in weight_keys(checkpoint)
        if not key.endswith("lm_head.weight")
    }
    _expect(checkpoint, names, "language_model.embed_tokens.weight", "text encoder")
    found = _expect(checkpoint, names, "visual.patch_embed.proj.weight", "text encoder with vision")
    return Part(checkpoint, names, config or _encoder_config(found))


def _encoder_name(key: str) -> str:
    for pattern, name in _ENCODER_NAMES:
        if pattern.match(key):
            return pattern.sub(name, key)
    return key


def _encoder_config(found: Checkpoint) -> dict[str, Any]:
    return {"text_config": _text_config(found), "vision_config": _vision_config(found)}


def _text_config(found: Checkpoint) -> dict[str, Any]:
    words, width = found.shape("language_model.embed_tokens.weight", 2)
    layer = "language_model.layers.0"
    (keys,) = found.shape(f"{layer}.self_attn.k_proj.bias", 1)
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": found.shape(f"{layer}.mlp.gate_proj.weight", 2)[0],
        "num_hidden_layers": _count(found, r"language_model\.layers\.(\d+)\."),
        "num_attention_heads": width // TEXT_HEAD_WIDTH,
        "num_key_value_heads": keys // TEXT_HEAD_WIDTH,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000.0,
            "mrope_section": [16, 24, 24],
        },
    }


def _vision_config(found: Checkpoint) -> dict[str, Any]:
    width, _, frames, patch, _ = found.shape("visual.patch_embed.proj.weight", 5)
    depth = _count(found, r"visual\.blocks\.(\d+)\.")
    return {
        "depth": depth,
        "hidden_size": width,
        "intermediate_size": found.shape("visual.blocks.0.mlp.gate_proj.bias", 1)[0],
        "num_heads": width // VISION_HEAD_WIDTH,
        "patch_size": patch,
        "temporal_patch_size": frames,
        "spatial_merge_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
        "out_hidden_size": found.shape("visual.merger.mlp.2.bias", 1)[0],
        "fullatt_block_indexes": [
            block for block in range(depth) if (block + 1) % FULL_ATTENTION_EVERY == 0
        ],
    }


def vae_part(checkpoint: Checkpoint, config: Mapping[str, Any] | None = None) -> Part:
    """The VAE, in diffusers' names or in those of Wan, which ComfyUI's file has."""
    own = list(weight_keys(checkpoint))
    wan = "decoder.middle.0.residual.0.gamma" in own
    names = _from_wan(checkpoint, own) if wan else {key: key for key in own}
    found = _expect(checkpoint, names, "decoder.mid_block.resnets.0.conv1.weight", "VAE")
    if config is None:
        config = {
            "base_dim": found.shape("encoder.conv_in.weight", 5)[0],
            "z_dim": found.shape("post_quant_conv.weight", 5)[0],
        }
    return Part(checkpoint, names, config)


def _from_wan(checkpoint: Checkpoint, keys: Iterable[str]) -> dict[str, str]:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    # The library renames a dict of tensors and never looks at them, so names pass as well.
    try:
        converted = convert_wan_vae_to_diffusers({key: key for key in keys})
    except (ValueError, LookupError) as error:
        raise checkpoint.broken("has layers numbered beyond reason") from error
    return {old: new for new, old in converted.items()}


def _count(found: Checkpoint, pattern: str) -> int:
    """How many layers there are; raises ``BrokenModelError`` where one is missing in between."""
    matches = (re.match(pattern, key) for key in found.entries)
    numbers = {match[1] for match in matches if match}
    # Compared as texts: a number of a million digits, or a million layers, is never made of them.
    if missing := {str(number) for number in range(len(numbers))} - numbers:
        raise found.broken(f"lacks layer {min(missing, key=int)} of {len(numbers)}")
    return len(numbers)


def _expect(checkpoint: Checkpoint, names: Mapping[str, str], key: str, what: str) -> Checkpoint:
    """``checkpoint`` in the module's names, if it holds ``key``, in a layout that can be read."""
    if key not in names.values():
        first = next(iter(sorted(checkpoint.entries)), "nothing")
        raise BrokenModelError(
            f"{checkpoint.name} is not a {what} of {FAMILY}: it lacks {key}, and begins with "
            f"{first}.",
            "Choose the right file.",
        )
    found = checkpoint.renamed(names)
    # Before anything is inferred from shapes: packed weights have others.
    check_layout(found)
    return found
