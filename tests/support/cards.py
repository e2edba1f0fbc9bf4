"""The published model as it lies on a card, by bits of its weights, without a byte of them."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from support.pack import load_pack
from support.real_size import real_transformer, real_vae

load_pack()

from firered_edit.pipeline.host import PlainHandle  # noqa: E402 - needs the pack
from firered_edit.pipeline.local.caches import Cache  # noqa: E402
from firered_edit.pipeline.local.model import FireRedModel  # noqa: E402
from firered_edit.pipeline.local.modulation import take_out  # noqa: E402

CARDS = (80, 48, 32, 24, 16, 12, 8)
"""GiB of common cards."""

BITS = {"bf16": 16.0, "8-bit": 8.0, "Q4_K": 4.5}
ENCODER_BITS = {"bf16": 16.0, "8-bit": 8.0, "Q4_K": 8.0}
"""Artists load the text encoder in fp8 beside packed transformers."""

TEXT = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1_000_000.0,
        "mrope_section": [16, 24, 24],
    },
}
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
}
BULK = ("transformer_blocks.", "language_model.layers.", "visual.")


@cache
def card_model(stored: str) -> FireRedModel:
    """The model with the bulk of its weights in ``stored``: a key of ``BITS``."""
    transformer = real_transformer.__wrapped__()
    modulation = take_out(transformer)
    nothing = cast(Any, None)
    return FireRedModel(
        name="real",
        transformer=PlainHandle(_in_bits(transformer, BITS[stored])),
        modulation=PlainHandle(modulation),
        text_encoder=PlainHandle(_in_bits(_encoder(), ENCODER_BITS[stored])),
        vae=PlainHandle(real_vae()),
        scheduler=nothing,
        processor=nothing,
        dtype=torch.bfloat16,
        precision=stored,
        cache=Cache(),
    )


def _encoder() -> nn.Module:
    with init_empty_weights():
        model = Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=TEXT, vision_config=VISION))
    return model.to(torch.bfloat16)


def _in_bits(module: nn.Module, bits: float) -> nn.Module:
    """``module`` with the matrices of its blocks as bytes that hold ``bits`` a weight."""
    for name, layer in module.named_modules():
        if bits < 16 and isinstance(layer, nn.Linear) and name.startswith(BULK):
            size = int(layer.weight.numel() * bits / 8)
            packed = torch.empty(size, dtype=torch.uint8, device="meta")
            layer.weight = nn.Parameter(packed, requires_grad=False)
    return module
