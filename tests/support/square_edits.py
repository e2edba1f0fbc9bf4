"""Edits of square pictures, prepared as an engine does: what memory and time are planned for."""

from __future__ import annotations

from functools import cache

import numpy as np

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import MatchImage  # noqa: E402 - needs the pack
from firered_edit.pipeline.images import Reference  # noqa: E402
from firered_edit.pipeline.preparation import Prepared, prepare  # noqa: E402
from firered_edit.pipeline.request import Acceleration, EditRequest  # noqa: E402


@cache
def square_edit(
    megapixels: float = 1.0,
    references: int = 1,
    steps: int = 40,
    acceleration: Acceleration = "none",
    guidance_scale: float = 4.0,
    prompt: str = "put the hat on",
) -> Prepared:
    """An edit at ``megapixels`` with pictures of a megapixel."""
    picture = Reference(np.zeros((1024, 1024, 3), np.uint8))
    return prepare(
        EditRequest(
            prompt=prompt,
            references=(picture,) * references,
            size=MatchImage(),
            num_images=1,
            seed=0,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            negative_prompt="",
            acceleration=acceleration,
            working_megapixels=megapixels,
        )
    )
