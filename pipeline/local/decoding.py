"""From latents to pictures, in one piece or in tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..host import Phase
from .autoencoder import Mode, working
from .bench import Bench
from .estimates import TILE
from .latents import Tokens, decode

if TYPE_CHECKING:
    from .estimates import Estimate


class Decoder:
    """Decodes; where the device runs out of memory all the same, once more in tiles."""

    def __init__(self, bench: Bench, sizes: Estimate, mode: Mode) -> None:
        self._bench = bench
        self._sizes = sizes
        self._mode = mode
        self._ran_out = False

    @property
    def tiles(self) -> str:
        """What a receipt says about tiling."""
        if self._ran_out:
            return f"decoded in {TILE} pixel tiles: out of memory in one piece"
        return f"decoded in {self._mode.tile} pixel tiles" if self._mode.tile else "none"

    def picture(self, tokens: Tokens) -> torch.Tensor:
        """(H, W, 3) float32 in 0..1 on the CPU, the size of the canvas."""
        self._bench.bring("decoding", self._bench.model.vae, self._sizes.decode)
        try:
            return self._decode(tokens)
        except torch.OutOfMemoryError:
            if self._mode.tile:
                raise
        # Outside the handler: the traceback would keep the tensors of the failed try alive.
        self._mode, self._ran_out = replace(self._mode, tile=TILE), True
        self._bench.host.phase(Phase("decoding in tiles", clock="decoding"))
        return self._decode(tokens)

    def _decode(self, tokens: Tokens) -> torch.Tensor:
        vae: Any = self._bench.model.vae.module
        with working(vae, self._mode):
            return decode(vae, tokens)
