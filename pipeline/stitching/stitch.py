"""The whole way: references, masks and a prompt to three composites and the prompt for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..checks import check_kind
from ..errors import InputError
from ..geometry import Size, check_shape
from ..images import Pixels, Reference, alpha_notices
from ..prompts import Placement, check_names, is_chinese, renumber
from ..request import TRAINED_REFERENCES
from .layouts import Composite, plan
from .regions import region_of

COUNT = (TRAINED_REFERENCES + 1, 12)
"""How many pictures can be put together."""


@dataclass(frozen=True)
class Stitched:
    """``pixels`` of each of ``composites``; ``prompt`` names them in place of the pictures."""

    composites: tuple[Composite, ...]
    pixels: tuple[Pixels, ...]
    prompt: str
    notices: tuple[str, ...]

    def summary(self) -> str:
        """Which picture lies where, and the notices: what the artist reads on the node."""
        lines = [_line(number, each) for number, each in enumerate(self.composites, 1)]
        return "\n".join([*lines, *self.notices])


def stitch(
    references: Sequence[Reference],
    prompt: str,
    masks: Mapping[int, torch.Tensor],
    background: bool,
) -> Stitched:
    """Put 4 to 12 ``references`` into three composites and rename them in ``prompt``.

    With ``background`` the first reference is the first composite as it is. ``masks`` mark the part
    that counts of a reference, by its number from 1; see ``region_of``. ``prompt`` may be empty.
    Raises ``InputError`` before a pixel is touched.
    """
    _check_count(len(references))
    check_kind("prompt", prompt, str, "Connect a text.")
    notices = [*check_names(prompt, len(references)), *alpha_notices(references)]
    pictures = _cropped(references, masks, background, notices)
    sizes = [Size.of(pixels.shape) for pixels in pictures]
    for number, size in enumerate(sizes, 1):
        check_shape(f"Image {number}", size)
    composites = plan(sizes, background)
    return Stitched(
        composites,
        tuple(compose(composite, pictures) for composite in composites),
        renumber(prompt, _placements(composites, is_chinese(prompt))),
        tuple(notices),
    )


def compose(composite: Composite, pictures: Sequence[Pixels]) -> Pixels:
    """(H, W, 3) uint8: every picture scaled to its tile."""
    pixels = np.empty((composite.size.height, composite.size.width, 3), np.uint8)
    for tile in composite.tiles:
        box = tile.box
        size = (box.size.width, box.size.height)
        # Pillow gives a picture back as it is where it has that size already.
        picture = Image.fromarray(pictures[tile.number - 1])
        scaled = picture.resize(size, Image.Resampling.LANCZOS)
        pixels[box.top : box.bottom, box.left : box.right] = np.asarray(scaled)
    return pixels


def _cropped(
    references: Sequence[Reference],
    masks: Mapping[int, torch.Tensor],
    background: bool,
    notices: list[str],
) -> list[Pixels]:
    """What of each reference is put together; masks without effect are told in ``notices``."""
    pictures = [reference.pixels for reference in references]
    for number, mask in sorted(masks.items()):
        if number > len(references):
            raise InputError(
                f"mask_{number} has no picture: {len(references)} are connected.",
                "mask_1 belongs to image 1; a batch counts as several images.",
            )
        if background and number == 1:
            notices.append("mask_1 has no effect: image 1 is the background")
            continue
        box = region_of(number, mask, references[number - 1].size)
        if box is None:
            notices.append(f"mask_{number} is empty: image {number} is used whole")
            continue
        pictures[number - 1] = pictures[number - 1][box.slices]
    return pictures


def _placements(composites: Sequence[Composite], chinese: bool) -> list[Placement]:
    """In the order of the pictures."""
    found = {
        tile.number: Placement(number, tile.where(chinese))
        for number, composite in enumerate(composites, 1)
        for tile in composite.tiles
    }
    return [found[number] for number in sorted(found)]


def _line(number: int, composite: Composite) -> str:
    places = [f"image {tile.number} {tile.where() or 'alone'}" for tile in composite.tiles]
    return f"composite {number} {composite.size}: {', '.join(places)}"


def _check_count(count: int) -> None:
    fewest, most = COUNT
    if count < fewest:
        raise InputError(
            f"{count} pictures are connected.",
            f"Connect up to {fewest - 1} directly to the edit node; it needs no stitching.",
        )
    if count > most:
        raise InputError(f"{count} pictures are connected.", f"Connect at most {most}.")
