"""Batches of pictures compared, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import EditCancelled, InputError
from ..geometry import Size
from ..host import Reporter
from ..images import batch_of
from ..masks import mask_batch
from .measuring import Drift, align, measure
from .pictures import scaled, to_mask, to_picture


@dataclass(frozen=True)
class Comparison:
    """How each picture of a batch lies against its source.

    ``masked``: only what lies outside a mask was compared. ``images`` is the batch moved back,
    (B, H, W, 3) float32 on the CPU in the size of `before`, or None where that was not asked for.
    """

    before: Size
    after: Size
    masked: bool
    drifts: tuple[Drift, ...]
    images: torch.Tensor | None


def compare(
    before: torch.Tensor,
    after: torch.Tensor,
    mask: torch.Tensor | None,
    aligned: bool,
    host: Reporter,
) -> Comparison:
    """Measure each picture of ``after``, and move it back where it is to be ``aligned``.

    ``before`` and ``mask`` hold one for all or one for each. Pictures are (B, H, W, C) in 0..1 of
    1, 3 or 4 channels, masks (B, H, W) in 0..1. ``after`` may be scaled, but not of another aspect.
    Raises ``InputError`` for anything else, and where a mask leaves nothing to compare.
    """
    sources, edits = batch_of("before", before), batch_of("after", after)
    masks = None if mask is None else mask_batch("mask", mask)
    count = len(edits)
    _check_count("before", len(sources), count)
    if masks is not None:
        _check_count("mask", len(masks), count)
    size = Size.of(sources.shape[1:])
    drifts, images, masked = [], [], False
    for index in range(count):
        if host.cancelled():
            raise EditCancelled
        old = to_picture("before", sources[index % len(sources)])
        new = scaled(to_picture("after", edits[index]), size)
        area = None if masks is None else to_mask(masks[index % len(masks)], size)
        drifts.append(measure(old, new, area))
        masked = masked or area is not None
        if aligned:
            images.append(torch.from_numpy(align(new, drifts[-1]).copy()))
        host.progress(index + 1, count)
    batch = torch.stack(images) if aligned else None
    return Comparison(size, Size.of(edits.shape[1:]), masked, tuple(drifts), batch)


def _check_count(name: str, count: int, wanted: int) -> None:
    if count not in (1, wanted):
        raise InputError(
            f"{name} holds {count}, after {wanted} pictures.",
            "Connect one for all, or one for each.",
        )
