"""What an edit costs in arithmetic and in weights read, counted from configurations alone.

The floor under any time: no machine computes these numbers faster than its matrix units can. A
multiplication and the addition that goes with it count as two operations, as torch counts them;
what lies between matrix products is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

FREQUENCIES = 256
"""Sines and cosines that a timestep is embedded as."""

WIDENED = 4
"""A feed-forward layer's inner width, in widths of its stream."""

TAPS = 3
"""Frames that a kernel of the VAE sees, of which a single picture fills one."""


@dataclass(frozen=True)
class Work:
    """Floating point operations in linear layers and convolutions, and in attention."""

    linear: int
    attention: int = 0

    @property
    def total(self) -> int:
        return self.linear + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(self.linear + other.linear, self.attention + other.attention)

    def times(self, count: int) -> Work:
        return Work(self.linear * count, self.attention * count)


@dataclass(frozen=True)
class Counts:
    """Tokens of a pass: of the picture in the making, of all references, of the text."""

    target: int
    references: int
    text: int

    @property
    def total(self) -> int:
        return self.target + self.references + self.text


@dataclass(frozen=True)
class TransformerShape:
    """The widths of the diffusion transformer; ``two_times`` where references have their own."""

    layers: int
    heads: int
    head_dim: int
    channels_in: int
    channels_out: int
    text_width: int
    two_times: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From the configuration of diffusers' class."""
        return cls(
            layers=config["num_layers"],
            heads=config["num_attention_heads"],
            head_dim=config["attention_head_dim"],
            channels_in=config["in_channels"],
            channels_out=config["patch_size"] ** 2 * config["out_channels"],
            text_width=config["joint_attention_dim"],
            two_times=config["zero_cond_t"],
        )

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


def pass_work(
    shape: TransformerShape, counts: Counts, *, tabled: bool = False, kept: bool = False
) -> Work:
    """One branch through the transformer.

    With ``tabled`` the modulation was computed before; with ``kept`` the references' keys and
    values were, and of them nothing else is computed.
    """
    width = shape.width
    rows = counts.total - (counts.references if kept else 0)
    per_token = 2 * (4 + 2 * WIDENED) * width**2
    block = Work(per_token * rows, 4 * rows * counts.total * width)
    if not tabled:
        block += Work(2 * 6 * width**2 * (3 if shape.two_times else 2))
    pictures = rows - counts.text
    ends = shape.channels_in * pictures + shape.channels_out * pictures
    outside = ends * width + shape.text_width * width * counts.text + _time_macs(shape)
    return block.times(shape.layers) + Work(2 * outside)


def _time_macs(shape: TransformerShape) -> int:
    """The timestep's embedding, and the modulation of the last norm."""
    times = 2 if shape.two_times else 1
    return times * (FREQUENCIES + shape.width) * shape.width + 2 * shape.width**2


def transformer_parameters(shape: TransformerShape, *, tabled: bool = False) -> int:
    """All weights; with ``tabled`` those that a pass reads."""
    return _block_matrices(shape, tabled) * shape.layers + _other_parameters(shape, tabled)


def pass_bytes(shape: TransformerShape, bits: int = 16, *, tabled: bool = False) -> int:
    """Bytes of weights a pass reads: matrices of the blocks in ``bits``, all else in 16."""
    matrices = _block_matrices(shape, tabled) * shape.layers
    return matrices * bits // 8 + _other_parameters(shape, tabled) * 2


def _block_matrices(shape: TransformerShape, tabled: bool) -> int:
    streams = 2 * (4 + 2 * WIDENED) * shape.width**2
    return streams + (0 if tabled else 2 * 6 * shape.width**2)


def _other_parameters(shape: TransformerShape, tabled: bool) -> int:
    width = shape.width
    # Four attention layers, two of the feed-forward ones, and their biases; norms of the heads.
    block = 2 * (4 + WIDENED + 1) * width + 4 * shape.head_dim
    block += 0 if tabled else 2 * 6 * width
    entry = (shape.channels_in + 1 + shape.text_width + 1) * width + shape.text_width
    time = (FREQUENCIES + 1 + width + 1) * width
    end = 2 * (width + 1) * width + (width + 1) * shape.channels_out
    return block * shape.layers + entry + time + end


def encode_picture_work(
    config: Mapping[str, Any], width: int, height: int, *, still: bool = False
) -> Work:
    """The VAE on a picture of ``width`` x ``height``; ``still`` leaves out what sees no frame."""
    base, mults = config["base_dim"], config["dim_mult"]
    dims = [base, *(base * mult for mult in mults)]
    taps = 1 if still else TAPS
    pixels, macs = width * height, 9 * taps * config["input_channels"] * base * width * height
    for level, (before, after) in enumerate(pairwise(dims)):
        for _ in range(config["num_res_blocks"]):
            macs += _residual(before, after, taps) * pixels
            before = after
        if level < len(mults) - 1:
            pixels //= 4
            macs += 9 * after**2 * pixels
    latents = 2 * config["z_dim"]
    ends = 9 * taps * dims[-1] * latents + latents**2
    return _middle(dims[-1], pixels, taps) + Work(2 * (macs + ends * pixels))


def decode_picture_work(
    config: Mapping[str, Any], width: int, height: int, *, still: bool = False
) -> Work:
    """The VAE back to a picture of ``width`` x ``height``."""
    mults = config["dim_mult"][::-1]
    dims = [config["base_dim"] * mult for mult in (mults[0], *mults)]
    taps, pixels = 1 if still else TAPS, width * height // 4 ** (len(mults) - 1)
    middle = _middle(dims[0], pixels, taps)
    macs = (config["z_dim"] ** 2 + 9 * taps * config["z_dim"] * dims[0]) * pixels
    for level, (before, after) in enumerate(pairwise(dims)):
        # Upsampling has halved the channels.
        entering = before // 2 if level else before
        for _ in range(config["num_res_blocks"] + 1):
            macs += _residual(entering, after, taps) * pixels
            entering = after
        if level < len(mults) - 1:
            pixels *= 4
            macs += 9 * after * (after // 2) * pixels
    macs += 9 * taps * dims[-1] * config["input_channels"] * pixels
    return middle + Work(2 * macs)


def _residual(before: int, after: int, taps: int) -> int:
    """Multiplications per pixel of a residual block."""
    shortcut = before * after if before != after else 0
    return 9 * taps * (before + after) * after + shortcut


def _middle(dim: int, pixels: int, taps: int) -> Work:
    """Two residual blocks, and attention of one head between them."""
    linear = (2 * _residual(dim, dim, taps) + 4 * dim**2) * pixels
    return Work(2 * linear, 4 * pixels**2 * dim)


def read_prompt_work(
    config: Mapping[str, Any], tokens: int, grids: Sequence[tuple[int, int]]
) -> Work:
    """Qwen2.5-VL on ``tokens`` in all, of pictures of ``grids`` (rows, columns) patches too."""
    text, vision = config["text_config"], config["vision_config"]
    width, heads = text["hidden_size"], text["num_attention_heads"]
    shared = width // heads * text["num_key_value_heads"]
    layer = 2 * width**2 + 2 * width * shared + 3 * width * text["intermediate_size"]
    read = Work(2 * layer * tokens, 4 * tokens**2 * width).times(text["num_hidden_layers"])
    for grid in grids:
        read += _see_work(vision, *grid)
    return read


def _see_work(vision: Mapping[str, Any], rows: int, columns: int) -> Work:
    width, patches = vision["hidden_size"], rows * columns
    merge = vision["spatial_merge_size"]
    channels = vision.get("in_channels", 3) * vision["temporal_patch_size"]
    entry = channels * vision["patch_size"] ** 2 * width
    layer = 4 * width**2 + 3 * width * vision["intermediate_size"]
    macs = (entry + layer * vision["depth"]) * patches
    merged = merge**2 * width
    macs += (merged**2 + merged * vision["out_hidden_size"]) * (patches // merge**2)
    whole = len(vision["fullatt_block_indexes"])
    windowed = (vision["depth"] - whole) * _window_pairs(vision, rows, columns)
    return Work(2 * macs, 4 * width * (whole * patches**2 + windowed))


def _window_pairs(vision: Mapping[str, Any], rows: int, columns: int) -> int:
    """Pairs of patches that see each other where attention stays within windows."""
    cell = vision["spatial_merge_size"] ** 2
    side = vision["window_size"] // vision["patch_size"] // vision["spatial_merge_size"]
    across, down = (
        [min(side, cells - start) for start in range(0, cells, side)]
        for cells in (columns // vision["spatial_merge_size"], rows // vision["spatial_merge_size"])
    )
    return sum((cell * width * height) ** 2 for width in across for height in down)
