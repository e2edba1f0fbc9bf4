"""How much memory an edit takes, known before it is taken.

The coefficients were counted on the real architecture's tensor lifetimes (eager, flash attention);
they hold for any size, since activations grow with tokens or with pixels. All figures are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SetupError
from ..geometry import MEGAPIXEL, Size
from .costs import Counts
from .latents import grid_of

if TYPE_CHECKING:
    from torch import nn

    from ..preparation import Prepared
    from ..request import EditRequest
    from .model import FireRedModel

GIB = 1024**3

PASS_VECTORS = 15.6
"""Vectors of the transformer's width that are alive per token at the worst moment of a pass."""

PASS_VECTORS_TWO_TIMES = 17.6
"""The same where references are modulated as at timestep zero."""

PASS_VECTORS_PAIRED = 12.9
"""The same, for each of two branches, in fused kernels."""

DECODE_BYTES = 36.3
"""Per pixel and base channel of the VAE; its norms in fp32 dominate."""

ENCODE_BYTES = 20.3
READ_BYTES = GIB
"""Reading the prompt and the small pictures that go with it: hardly depends on their size."""

RESERVE_BYTES = int(0.8 * GIB)
"""What the driver, its libraries and fragmentation take beside all tensors."""

PICTURE_TOKENS = 224
"""Text tokens of a picture as the text encoder sees it, at the most."""

TILE = 512
"""Side in pixels of a tile where the VAE cannot take a picture whole."""


@dataclass(frozen=True)
class Estimate:
    """Bytes beside the weights, by phase, and the sides of tiles where the VAE needs them.

    ``paired`` is whether both branches of guidance go through the transformer in one pass.
    """

    read: int
    encode: int
    denoise: int
    decode: int
    encode_tile: int | None
    decode_tile: int | None
    paired: bool


def estimate(model: FireRedModel, prepared: Prepared, total: int) -> Estimate:
    """What an edit takes on a device of ``total`` bytes, whatever is free now.

    Raises ``SetupError`` with the numbers where even streaming every layer cannot make it fit.
    """
    plan = prepared.plan
    largest = max((fit.grid for fit in plan.fits), key=lambda grid: grid.area)
    encode, encode_tile = _vae_bytes(model, largest, ENCODE_BYTES, total)
    decode, decode_tile = _vae_bytes(model, plan.canvas, DECODE_BYTES, total)
    paired = _shares_passes(prepared.request) and _denoise_needs(model, prepared, 2) <= total
    found = Estimate(
        read=READ_BYTES,
        encode=encode,
        denoise=_denoise_bytes(model, prepared, 1 + paired),
        decode=decode,
        encode_tile=encode_tile,
        decode_tile=decode_tile,
        paired=paired,
    )
    _check_fits(found, model, prepared, total)
    return found


def _shares_passes(request: EditRequest) -> bool:
    """The reference mathematics makes one pass after the other."""
    return request.acceleration != "none" and request.guidance_scale > 1


def _vae_bytes(
    model: FireRedModel, size: Size, per_pixel: float, total: int
) -> tuple[int, int | None]:
    """Bytes of one pass of the VAE over ``size``, and the side of a tile where it must be cut."""
    vae: Any = model.vae.module
    # Counted in bf16; a wider dtype takes at most as many times more.
    per_pixel *= vae.config.base_dim * model.dtype.itemsize / 2
    whole = int(size.area * per_pixel)
    if whole + sum(layer_bytes(vae)) + RESERVE_BYTES <= total:
        return whole, None
    return min(whole, int(TILE**2 * per_pixel)), TILE


def _denoise_bytes(model: FireRedModel, prepared: Prepared, branches: int) -> int:
    """Activations of one pass over canvas, references and text of so many branches."""
    transformer: Any = model.transformer.module
    vectors = PASS_VECTORS_TWO_TIMES if transformer.zero_cond_t else PASS_VECTORS
    if branches > 1:
        vectors = PASS_VECTORS_PAIRED
    tokens = branches * pass_counts(prepared).total
    alive = tokens * vectors + _table_vectors(transformer, prepared)
    return int(alive * transformer.inner_dim * model.dtype.itemsize)


def _table_vectors(transformer: Any, prepared: Prepared) -> int:
    """Six vectors per block, stream and step, twice for pictures that have two times."""
    rows = 3 if transformer.zero_cond_t else 2
    blocks = len(transformer.transformer_blocks)
    return prepared.request.num_inference_steps * blocks * rows * 6


def _denoise_needs(model: FireRedModel, prepared: Prepared, branches: int) -> int:
    """The least that steps need: while streaming, one layer computes as the next one arrives."""
    streamed = 2 * max(layer_bytes(model.transformer.module))
    return _denoise_bytes(model, prepared, branches) + streamed + RESERVE_BYTES


def _check_fits(found: Estimate, model: FireRedModel, prepared: Prepared, total: int) -> None:
    plan = prepared.plan
    vae = max(found.decode, found.encode) + RESERVE_BYTES
    needed = max(_denoise_needs(model, prepared, 1 + found.paired), vae)
    if needed > total:
        megapixels = plan.canvas.area / MEGAPIXEL
        raise SetupError(
            f"An edit at {megapixels:.1f} megapixels with {len(plan.fits)} pictures needs "
            f"{needed / GIB:.1f} GB beside the weights; this device has {total / GIB:.1f}.",
            "Lower working_megapixels, connect fewer pictures, or use FireRed Edit (fal).",
        )


def pass_counts(prepared: Prepared) -> Counts:
    """Tokens of one branch's pass; of its text the most there can be."""
    plan = prepared.plan
    return Counts(
        target=_tokens(plan.canvas),
        references=sum(_tokens(fit.grid) for fit in plan.fits),
        text=len(plan.fits) * PICTURE_TOKENS + len(prepared.prompt),
    )


def _tokens(size: Size) -> int:
    rows, columns = grid_of(size)
    return rows * columns


def layer_bytes(module: nn.Module) -> list[int]:
    """Bytes of every layer that has weights of its own, as they are stored."""
    found = (
        sum(parameter.nbytes for parameter in layer.parameters(recurse=False))
        for layer in module.modules()
    )
    return [size for size in found if size]
