"""An edited crop, back in its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..checks import check_kind
from ..errors import InputError
from ..geometry import Size
from ..images import batch_of, finite, over_white
from . import colour
from .cropping import Region
from .detail import give_back_detail
from .resampling import resample, to_bytes

_ROWS = 32
"""A large picture is blended in strips that stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Pasted:
    """``images`` (B, H, W, 3) float32 of the picture's size; ``notes`` for the artist."""

    images: torch.Tensor
    notes: tuple[str, ...]

    def describe(self) -> str:
        """What was done, for the artist."""
        count, height, width = self.images.shape[:3]
        if count == 1 or len(set(self.notes)) < 2:
            notes = list(dict.fromkeys(self.notes))
        else:
            notes = [f"picture {number}: {note}" for number, note in enumerate(self.notes, 1)]
        return "\n".join([f"pasted into {Size(width, height)}", *notes])


def paste_region(edited: torch.Tensor, region: Region, match_colour: bool = True) -> Pasted:
    """Each picture of ``edited``, (B, h, w, C) or (h, w, C) in 0..1, in place of the crop.

    Where the effective mask is 0 the picture keeps its values bit for bit. An edit of another size
    is scaled. Raises ``InputError`` for another aspect than the crop's, and for NaN.
    """
    check_kind("region", region, Region, "Connect region of FireRed Crop Region.")
    batch = batch_of("edited", edited)
    _check_aspect(Size.of(batch.shape[1:]), region.frame.size)
    pictures = [over_white(finite("edited", picture)) for picture in batch]
    images = torch.empty(len(pictures), *region.source.shape)
    notes = []
    for image, picture in zip(images, pictures, strict=True):
        if match_colour:
            picture, note = colour.match_colour(picture, region)
            notes.append(note)
        image.copy_(region.source)
        _blend(image[region.mask.bounds.slices], _fitted(picture, region), region.mask.alpha)
    return Pasted(images, tuple(notes))


def _check_aspect(edit: Size, crop: Size) -> None:
    if not edit.same_aspect(crop):
        raise InputError(
            f"The edit is {edit} pixels, its crop was {crop}.",
            "Set the edit's size to match image.",
        )


def _fitted(picture: torch.Tensor, region: Region) -> torch.Tensor:
    """What covers the bounds of the mask, (H, W, 3): uint8, or float32 where that is as quick."""
    frame = region.frame
    if frame.scale < 1:
        return _on_the_picture(to_bytes(picture), region)
    if frame.scale == 1 and Size.of(picture.shape) == frame.size:
        found = picture[frame.inside(region.mask.bounds).slices]
    else:
        found = _on_the_picture(picture, region)
    if frame.scale > 1:
        source = region.source[region.mask.bounds.slices]
        found = give_back_detail(found, _on_the_picture(region.crop, region), source)
    return found.clamp(0, 1)


def _on_the_picture(picture: torch.Tensor, region: Region) -> torch.Tensor:
    """``picture``, which shows the frame at any size, at the picture's scale within the bounds."""
    height, width = picture.shape[:2]
    scale = (region.frame.height / height, region.frame.width / width)
    wanted = region.frame.inside(region.mask.bounds)
    return resample(picture, scale, Size(wanted.right, wanted.bottom))[wanted.slices]


def _blend(under: torch.Tensor, over: torch.Tensor, alpha: np.ndarray) -> None:
    """Lay ``over`` on ``under``, in place. NumPy repeats the alpha thrice as fast as PyTorch."""
    below, above = under.numpy(), over.numpy()
    for top in range(0, len(alpha), _ROWS):
        rows = slice(top, top + _ROWS)
        strip = above[rows].astype(np.float32)
        if above.dtype == np.uint8:
            strip /= 255
        share = alpha[rows].astype(np.float32) / 255
        strip -= below[rows]
        strip *= np.repeat(share, 3, axis=1).reshape(strip.shape)
        below[rows] += strip
