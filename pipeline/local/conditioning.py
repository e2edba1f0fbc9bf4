"""What steers an edit: the prompt read together with the pictures, and the pictures as latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..geometry import Size
from .autoencoder import Mode, working
from .bench import Bench
from .denoising import Conditions
from .encoding import condition_pictures, encode_prompt
from .latents import Tokens, encode, grid_of

if TYPE_CHECKING:
    from PIL import Image

    from ..images import Pixels
    from ..preparation import Prepared
    from .estimates import Estimate

EMPTY_NEGATIVE = " "
"""The reference's own negative prompt when none is written."""


class Conditioner:
    """Reads prompts and pictures; what was read before is not read again."""

    def __init__(self, bench: Bench, sizes: Estimate, mode: Mode) -> None:
        self._bench = bench
        self._model = bench.model
        self._device = bench.host.device
        self._sizes = sizes
        self._mode = mode

    def conditions(self, prepared: Prepared) -> Conditions:
        """Everything the denoiser needs of ``prepared``, on the device."""
        placed = prepared.placed_references()
        pictures = condition_pictures(placed)
        request = prepared.request
        positive = self._embed(prepared.prompt, pictures)
        negative = None
        if request.guidance_scale > 1:
            negative = self._embed(request.negative_prompt or EMPTY_NEGATIVE, pictures)
        references = [self._encode(pixels) for pixels in placed]
        return Conditions(positive, negative, references, request.guidance_scale)

    def _embed(self, prompt: str, pictures: list[Image.Image]) -> torch.Tensor:
        def compute() -> tuple[torch.Tensor]:
            self._bench.bring("reading the prompt", self._model.text_encoder, self._sizes.read)
            encoder: Any = self._model.text_encoder.module
            processor = self._model.processor
            return (encode_prompt(encoder, processor, prompt, pictures, self._device),)

        seen = [part for picture in pictures for part in (picture.size, picture.tobytes())]
        (found,) = self._bench.remembered("prompts", (prompt, *seen), compute)
        return self._placed(found)

    def _encode(self, pixels: Pixels) -> Tokens:
        def compute() -> tuple[torch.Tensor]:
            self._bench.bring("reading the pictures", self._model.vae, self._sizes.encode)
            vae: Any = self._model.vae.module
            with working(vae, self._mode):
                return (encode(vae, pixels, self._device).values,)

        content = (pixels.shape, pixels.tobytes(), self._mode)
        (found,) = self._bench.remembered("references", content, compute)
        height, width = pixels.shape[:2]
        return Tokens(self._placed(found), grid_of(Size(width, height)))

    def _placed(self, found: torch.Tensor) -> torch.Tensor:
        return found.to(self._bench.host.device, self._model.dtype)
