"""A model folder of twelve megabytes with the real classes, layout and geometry, random weights.

Small are only the widths, the depths and the vocabulary. What code computes with is real: 16 latent
channels at scale 8, latents mean and standard deviation, packing into 64 channels, the scheduler,
14-pixel vision patches merged two by two, windowed and full vision attention, three rotary axes in
both transformers, the prompt template of 64 dropped tokens, and weights split over several files.

So are the proportions by which the shapes of the weights alone tell a configuration: heads of 128
in the language model and of 80 in the vision tower, full attention in every eighth vision block,
an eighth of a diffusion head for the frame axis and the rest in two halves.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from doubles.tiny_tokenizer import (
    IMAGE_TOKEN,
    VIDEO_TOKEN,
    VISION_END_TOKEN,
    VISION_START_TOKEN,
    build_tokenizer,
    copy_tokenizer,
)

TEXT_HEAD_WIDTH = 128
TEXT_WIDTH = 2 * TEXT_HEAD_WIDTH
VISION_HEAD_WIDTH = 80
VISION_WIDTH = 2 * VISION_HEAD_WIDTH
# The real embeddings have more rows than the real vocabulary has tokens.
REAL_VOCABULARY_SIZE = 152064
# Small enough for the two large models to be split like the real ones.
TRANSFORMER_SHARD_SIZE = "400KB"
TEXT_ENCODER_SHARD_SIZE = "4MB"
# SiLU and GELU halve what passes them; this keeps the branches level with the residual stream.
GAIN = 1.3
# Normalised queries and keys of unit size attend almost uniformly, blind to content and place.
ATTENTION_SHARPNESS = 2.0


def build_tiny_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    zero_cond_t: bool = False,
    layers: int = 2,
    seed: int = 0,
    vocabulary: Path | None = None,
) -> Path:
    """Write a diffusers folder of QwenImageEditPlusPipeline to `folder` and return `folder`.

    `layers` counts the blocks of the diffusion transformer. `vocabulary` is a folder with the real
    tokenizer files: with it the token ids are the real ones, so that the model also understands
    another copy of that tokenizer, and the embeddings make it some 150 MB larger. A parameter
    depends only on `seed`, its name and its shape, so equal arguments give equal files, and `dtype`
    only rounds the values. The caller's random state is left alone.
    """
    tokenizer = _write_tokenizer(folder / "tokenizer", vocabulary)
    rows = len(tokenizer) if vocabulary is None else REAL_VOCABULARY_SIZE
    processor = _write_processor(folder / "processor", tokenizer)
    # The constructors draw weights of their own, on the CPU, before they are replaced.
    with torch.random.fork_rng(devices=[]):
        transformer = _transformer(layers, zero_cond_t)
        text_encoder = Qwen2_5_VLForConditionalGeneration(_text_encoder_config(tokenizer, rows))
        vae = AutoencoderKLQwenImage(base_dim=8)
    for model in (transformer, text_encoder, vae):
        _fill(model, seed, dtype)
    # The pipeline clips pixels to [-1, 1]; few may reach the ends, where differences disappear.
    vae.decoder.conv_out.weight.data.mul_(0.5)
    scheduler = _scheduler()
    transformer.save_pretrained(folder / "transformer", max_shard_size=TRANSFORMER_SHARD_SIZE)
    text_encoder.save_pretrained(folder / "text_encoder", max_shard_size=TEXT_ENCODER_SHARD_SIZE)
    vae.save_pretrained(folder / "vae")
    scheduler.save_pretrained(folder / "scheduler")
    pipeline = QwenImageEditPlusPipeline(
        scheduler, vae, text_encoder, tokenizer, processor, transformer
    )
    pipeline.save_config(folder)
    return folder


def _write_tokenizer(folder: Path, vocabulary: Path | None) -> Qwen2Tokenizer:
    if vocabulary is None:
        return build_tokenizer(folder)
    return copy_tokenizer(vocabulary, folder)


def _transformer(layers: int, zero_cond_t: bool) -> QwenImageTransformer2DModel:
    """The diffusion transformer; its rotary axes are a quarter of the real (16, 56, 56)."""
    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=layers,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(4, 14, 14),
        zero_cond_t=zero_cond_t,
    )


def _text_encoder_config(tokenizer: Qwen2Tokenizer, rows: int) -> Qwen2_5_VLConfig:
    text = {
        "vocab_size": rows,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": TEXT_WIDTH // TEXT_HEAD_WIDTH,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000.0,
            "mrope_section": [16, 24, 24],
        },
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    vision = {
        "depth": 8,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "num_heads": VISION_WIDTH // VISION_HEAD_WIDTH,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7],
        "out_hidden_size": TEXT_WIDTH,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_TOKEN),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START_TOKEN),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END_TOKEN),
        tie_word_embeddings=False,
    )


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        max_image_seq_len=8192,
        base_shift=0.5,
        max_shift=0.9,
        shift=1.0,
        shift_terminal=0.02,
        time_shift_type="exponential",
        use_dynamic_shifting=True,
    )


def _write_processor(folder: Path, tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """Write the processor as one file per part, the layout of the real folder."""
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16384 * 28 * 28}
    image_processor = Qwen2VLImageProcessor(size=size)
    video_processor = Qwen2VLVideoProcessor()
    for part in (image_processor, video_processor, tokenizer):
        part.save_pretrained(folder)
    return Qwen2VLProcessor(image_processor, tokenizer, video_processor)


def _fill(model: nn.Module, seed: int, dtype: torch.dtype) -> None:
    """Draw every parameter so that each layer roughly keeps the scale of its input.

    With the small weights of a fresh model attention and modulation hardly contribute, and wrong
    mathematics does not show in the picture.
    """
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{key}"
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            mean, spread = _distribution(name, module, parameter)
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = (mean + spread * noise).to(dtype)


def _distribution(name: str, module: nn.Module, parameter: nn.Parameter) -> tuple[float, float]:
    """Mean and standard deviation of one parameter."""
    if name.endswith(".bias"):
        return 0.0, 0.1
    if ".attn.norm_" in name:
        return ATTENTION_SHARPNESS, 0.1
    if name.endswith(".gamma") or parameter.ndim == 1:
        return 1.0, 0.1
    if isinstance(module, nn.Embedding):
        return 0.0, 1.0
    return 0.0, GAIN * _fan_in(module, parameter) ** -0.5


def _fan_in(module: nn.Module, kernel: nn.Parameter) -> int:
    """The number of inputs one output sums, for a still picture.

    Of a causal kernel's temporal taps only the last meets the picture, the others see padding.
    """
    seen = kernel[0, :, -1] if isinstance(module, QwenImageCausalConv3d) else kernel[0]
    return seen.numel()
