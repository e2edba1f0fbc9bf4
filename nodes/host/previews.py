"""The picture in the making, shown in the way the artist has chosen in ComfyUI's settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import comfy.latent_formats
import latent_preview
import torch

FORMAT = "JPEG"


class Previews:
    """Previews of one node's run; without a chosen method nothing is computed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def make(self, estimate: Callable[[], torch.Tensor]) -> Any | None:
        """What ComfyUI's progress bar takes as a preview of normalised latents (1, 16, 1, h, w)."""
        if self._previewer is None:
            return None
        return self._previewer.decode_latent_to_preview_image(FORMAT, estimate().float())

    @cached_property
    def _previewer(self) -> Any | None:
        # FireRed's VAE shares the latent space of Wan 2.1, for which ComfyUI has the decoders.
        return latent_preview.get_previewer(self._device, comfy.latent_formats.Wan21())
