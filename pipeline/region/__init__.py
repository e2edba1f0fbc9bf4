"""Editing a part of a picture: a crop around a mask, at a size that suits the model, and back."""

from .cropping import CONTEXT, FEATHER, GROW, Region, crop_region
from .pasting import Pasted, paste_region

__all__ = [
    "CONTEXT",
    "FEATHER",
    "GROW",
    "Pasted",
    "Region",
    "crop_region",
    "paste_region",
]
