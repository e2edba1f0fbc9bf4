"""The crop that is edited in place of the picture, and what it takes to paste it back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..boxes import Box
from ..checks import check_range
from ..errors import InputError
from ..geometry import MEGAPIXELS, Size
from ..images import batch_of, finite, is_transparent, over_white
from .frames import Frame, find_frame
from .masks import Patch, read_mask, spread
from .resampling import resample, to_bytes

GROW = (0, 512)
FEATHER = (0, 256)
CONTEXT = (1.0, 4.0)


@dataclass(frozen=True, eq=False)
class Region:
    """One crop and its way back.

    ``source`` is the picture, (H, W, 3) float32 as it came; ``mask`` what of it is replaced;
    ``crop`` what the edit is given, (h, w, 3) float32 of ``frame.size``.
    """

    source: torch.Tensor
    mask: Patch
    frame: Frame
    crop: torch.Tensor
    had_alpha: bool = False

    @property
    def size(self) -> Size:
        return Size.of(self.source.shape)

    @property
    def shown(self) -> Box:
        """The picture's pixels that the frame shows, if only in part."""
        return Box(
            self.frame.left,
            self.frame.top,
            min(self.size.width, math.ceil(self.frame.left + self.frame.width - 1e-6)),
            min(self.size.height, math.ceil(self.frame.top + self.frame.height - 1e-6)),
        )

    def describe(self) -> str:
        """What was cut, for the artist."""
        frame, shown = self.frame, self.shown
        box = Size(round(frame.width), round(frame.height))
        lines = [
            f"box {box} at {frame.left}, {frame.top} of {self.size} · crop {frame.size} · "
            f"scale {frame.scale:.4g}"
        ]
        if max(frame.width - shown.width, frame.height - shown.height) > 1:
            lines.append("the picture ends inside the crop; its edge pixels are repeated")
        if frame.scale < 1:
            lines.append(
                f"the crop is {box}, edited at {frame.size}: detail finer than "
                f"{1 / frame.scale:.1f} pixels is lost inside the mask; a smaller mask, less "
                "context or more working_megapixels keeps it"
            )
        if self.had_alpha:
            lines.append("transparency was laid over white")
        return "\n".join(lines)


def crop_region(
    image: torch.Tensor,
    mask: torch.Tensor,
    grow: int = 16,
    feather: int = 16,
    context: float = 1.5,
    working_megapixels: float = 1.0,
) -> Region:
    """Cut what surrounds ``mask`` out of one picture, at a size that suits the model.

    ``image`` is (1, H, W, C) or (H, W, C), ``mask`` (1, H, W) or (H, W), both in 0..1. ``grow`` and
    ``feather`` are pixels of the picture, ``context`` the sides of the crop in those of the grown
    mask. Raises ``InputError`` for anything that is no picture, no mask or out of range.
    """
    check_range("grow", grow, GROW)
    check_range("feather", feather, FEATHER)
    check_range("context", context, CONTEXT)
    check_range("working_megapixels", working_megapixels, MEGAPIXELS)
    batch = batch_of("image", image)
    if len(batch) > 1:
        raise InputError(
            f"image holds {len(batch)} pictures.",
            "Feed them one by one, such as with Rebatch Images or as a list.",
        )
    picture = batch[0].detach().to("cpu", torch.float32)
    source = over_white(picture)
    size = Size.of(source.shape)
    effective = spread(read_mask(mask, size), grow, feather, size)
    frame = find_frame(effective.bounds, size, context, working_megapixels)
    return Region(source, effective, frame, _cut(source, frame), is_transparent(picture))


def _cut(source: torch.Tensor, frame: Frame) -> torch.Tensor:
    needed = Size(math.ceil(frame.width - 1e-6), math.ceil(frame.height - 1e-6))
    # Only what is edited is looked at: the rest goes through as it is.
    part = finite("image", source[frame.top :, frame.left :][: needed.height, : needed.width])
    if frame.scale == 1.0:
        return _padded(part, needed)
    pixels = _padded(to_bytes(part), needed)
    return resample(pixels, (frame.scale, frame.scale), frame.size).to(torch.float32).div_(255)


def _padded(part: torch.Tensor, size: Size) -> torch.Tensor:
    """``part`` with its right and bottom edge pixels repeated where ``size`` is not reached."""
    missing_x, missing_y = size.width - part.shape[1], size.height - part.shape[0]
    if missing_x > 0:
        part = torch.cat([part, part[:, -1:].expand(-1, missing_x, -1)], dim=1)
    if missing_y > 0:
        part = torch.cat([part, part[-1:].expand(missing_y, -1, -1)], dim=0)
    return part
