"""Pictures in their three forms: IMAGE tensors, uint8 arrays and encoded bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps

from .checks import check_kind
from .errors import InputError, ResultError
from .geometry import Size

Pixels: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""(H, W, 3) uint8 RGB."""

ALPHA_BACKGROUND = 255
"""Transparent references are laid over white: what a viewer shows, and what FireRed was fed."""

MAX_REFERENCES = 10
MAX_DECODED_PIXELS = 8192 * 8192
_ROWS = 16
"""Pictures are brought to bytes in strips that stay in the processor's cache."""

_FORMATS = ("PNG", "JPEG", "WEBP")
_END_OF_JPEG = b"\xff\xd9"


@dataclass(frozen=True)
class Reference:
    """One picture to edit from. ``had_alpha``: it was composited over white."""

    pixels: Pixels
    had_alpha: bool = False

    @property
    def size(self) -> Size:
        return Size.of(self.pixels.shape)


def references_from(
    images: Mapping[str, torch.Tensor], limit: int = MAX_REFERENCES
) -> tuple[Reference, ...]:
    """Flatten sockets and batches to numbered references, in the order of the sockets.

    Each tensor is (B, H, W, C) or (H, W, C), floating point in 0..1, with 1, 3 or 4 channels, on
    any device. Raises ``InputError`` for anything else, and for more than ``limit``.
    """
    pictures = [picture for name, batch in images.items() for picture in _split(name, batch)]
    if len(pictures) > limit:
        raise InputError(f"{len(pictures)} pictures are connected.", f"Connect at most {limit}.")
    return tuple(pictures)


def alpha_notices(references: Sequence[Reference]) -> list[str]:
    """What an artist is told of references that were not opaque."""
    return [
        f"image {number} has transparency and was laid over white"
        for number, reference in enumerate(references, 1)
        if reference.had_alpha
    ]


def _split(name: str, batch: torch.Tensor) -> Iterable[Reference]:
    for picture in batch_of(name, batch):
        yield Reference(*_flatten_alpha(to_uint8(name, picture)))


def batch_of(name: str, images: torch.Tensor) -> torch.Tensor:
    """An IMAGE, or a picture of one, as (B, H, W, C); ``InputError`` for what is none."""
    check_kind(name, images, torch.Tensor, "Connect an IMAGE.")
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[-1] not in (1, 3, 4) or 0 in batch.shape:
        raise InputError(
            f"{name} is not a picture: its shape is {tuple(images.shape)}.",
            "Connect an IMAGE of shape (batch, height, width, channels).",
        )
    return batch


def finite(name: str, values: torch.Tensor) -> torch.Tensor:
    """``values`` as float32 on the CPU, uncopied where they are; ``InputError`` on NaN."""
    values = values.detach().to("cpu", torch.float32)
    # The extremes are NaN or infinite where any value is, and take no copy to find.
    if not torch.isfinite(torch.stack(torch.aminmax(values))).all():
        raise InputError(
            f"{name} holds NaN or infinite values.", f"Check the node that makes {name}."
        )
    return values


def to_uint8(name: str, picture: torch.Tensor) -> Pixels:
    """(H, W, C) floating point in 0..1 to uint8, rounded to nearest; ``InputError`` on NaN."""
    values = finite(name, picture).numpy()
    pixels = np.empty(values.shape, np.uint8)
    strip = np.empty((_ROWS, *values.shape[1:]), np.float32)
    # What is far above 1 becomes infinite, and is brought down with the rest.
    with np.errstate(over="ignore"):
        for top in range(0, len(values), _ROWS):
            part = values[top : top + _ROWS]
            scaled = np.multiply(part, 255, out=strip[: len(part)])
            pixels[top : top + _ROWS] = np.rint(scaled, out=scaled).clip(0, 255, out=scaled)
    return pixels


def over_white(picture: torch.Tensor) -> torch.Tensor:
    """(H, W, C) float32 in 0..1 of 1, 3 or 4 channels to (H, W, 3), uncopied if it was opaque."""
    if picture.shape[-1] == 1:
        return picture.expand(-1, -1, 3)
    if not is_transparent(picture):
        return picture[..., :3]
    alpha = picture[..., 3:]
    return picture[..., :3] * alpha + ALPHA_BACKGROUND / 255 * (1 - alpha)


def is_transparent(picture: torch.Tensor) -> bool:
    """Whether (H, W, C) in 0..1 has an alpha channel that is not 1 throughout."""
    return picture.shape[-1] == 4 and bool((picture[..., 3] < 1).any())


def _flatten_alpha(pixels: Pixels) -> tuple[Pixels, bool]:
    channels = pixels.shape[2]
    if channels == 3:
        return pixels, False
    if channels == 1:
        return np.repeat(pixels, 3, axis=2), False
    alpha = pixels[..., 3:].astype(np.float32) / 255
    over = pixels[..., :3] * alpha + ALPHA_BACKGROUND * (1 - alpha)
    return np.rint(over).astype(np.uint8), bool((pixels[..., 3] < 255).any())


def to_tensor(pixels: Pixels) -> torch.Tensor:
    """(H, W, 3) uint8 to (H, W, 3) float32 in 0..1."""
    picture = torch.empty(pixels.shape)
    np.divide(pixels, np.float32(255), out=picture.numpy())
    return picture


def encode_png(pixels: Pixels) -> bytes:
    """Lossless and quick: photographs come out no larger than at Pillow's default, sooner."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_jpeg(pixels: Pixels) -> bytes:
    """Quality 95 with full colour resolution (4:4:4)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes) -> Pixels:
    """Bytes of a PNG, JPEG or WebP to RGB pixels; ``ResultError`` if they are anything else.

    The type is read from the bytes: what a server declares about them is not always true. The
    picture is turned as its file says, and of several it is the first.
    """
    try:
        _check_whole(data)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_DECODED_PIXELS:
                raise ResultError(
                    f"The result is {picture.width}x{picture.height} pixels.",
                    "Ask for a smaller size.",
                )
            return _upright(picture)
    except _UNREADABLE as error:
        raise ResultError("The result is not a readable picture.", "Run the edit again.") from error


_UNREADABLE = (
    OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError, Warning,
)  # fmt: skip
"""What Pillow raises, of warnings where another pack has made errors of them."""


def _check_whole(data: bytes) -> None:
    """Raise one of ``_UNREADABLE`` where Pillow would make up for bytes missing or wrong."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
        # Compares the checksums of a PNG, which those who load its pixels pass over.
        picture.verify()
        # Other packs set this for the whole process; what is missing would then come out grey.
        lenient = picture.format == "JPEG" and ImageFile.LOAD_TRUNCATED_IMAGES
    if lenient and _END_OF_JPEG not in data:
        raise ValueError("cut short")


def _upright(picture: Image.Image) -> Pixels:
    picture.load()
    # A damaged note on how to hold a picture raises anything, and takes nothing from its pixels.
    with suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)
    if not picture.mode.startswith("I"):
        return np.asarray(picture.convert("RGB"))
    # 16 bits of grey: Pillow would make everything white that is above 8.
    grey = np.rint(np.asarray(picture, np.float32) / 257).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def check_finite(values: torch.Tensor) -> None:
    """Raise ``ResultError`` where a model's ``values`` are not numbers."""
    if not torch.isfinite(values).all():
        raise ResultError(
            "The model produced NaN values.",
            "Use acceleration none and bf16, and report it if it stays.",
        )


def check_shown(picture: torch.Tensor) -> None:
    """Raise ``ResultError`` where (H, W, 3) ``picture`` is NaN or black throughout."""
    check_finite(picture)
    if picture.max() <= 0:
        raise ResultError("The result is black throughout.", "Try another seed or prompt.")
