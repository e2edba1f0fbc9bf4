"""The finest detail of a picture that went through an enlarged crop.

Enlarged and shrunk again, a picture has lost a little of its finest detail. Where the edit kept
the content, what was lost is added back; where it replaced it, the old detail would be a ghost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

_FINE = 3
"""Pixels across: what differs from their mean is fine detail."""

_AROUND = 9
"""Pixels across over which old and new detail are compared."""

_FAINT = 3 * (0.5 / 255) ** 2
"""Energy of detail, over three channels, that rounding to 8 bits makes."""


def give_back_detail(
    edited: torch.Tensor, sent: torch.Tensor, source: torch.Tensor
) -> torch.Tensor:
    """``edited`` with the detail that ``sent`` has lost against ``source``, as far as it was kept.

    All are (H, W, 3) float32 at the picture's scale: the shrunk edit, the shrunk crop and the
    picture. Of an edit that changed nothing, the source comes back.
    """
    # In this order an edit that changed nothing gives the source without a rounding error.
    return source + (edited - sent) - (1 - _kept(edited, sent)) * (source - sent)


def _kept(edited: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
    """(H, W, 1): the share, 0..1, of the fine detail of ``sent`` that is in ``edited``.

    What both have in common, as a part of the stronger: other detail has nothing in common with the
    old, and detail that was smoothed away is weaker.
    """
    new, old = (_fine(picture.permute(2, 0, 1)) for picture in (edited, sent))
    shared, of_new, of_old = (
        _mean((one * other).sum(dim=0, keepdim=True), _AROUND)
        for one, other in ((new, old), (new, new), (old, old))
    )
    share = (shared + _FAINT) / (torch.maximum(of_new, of_old) + _FAINT)
    return share.clamp_(0, 1).permute(1, 2, 0)


def _fine(planes: torch.Tensor) -> torch.Tensor:
    return planes - _mean(planes, _FINE)


def _mean(planes: torch.Tensor, across: int) -> torch.Tensor:
    """The mean of a square around each pixel, less of it at the edges."""
    for kernel in ((across, 1), (1, across)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        planes = F.avg_pool2d(planes, kernel, 1, padding, count_include_pad=False)
    return planes
