"""A picture maker for the loopback fal: the tiny model through the pack's own local engine."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from doubles.tiny_model import build_tiny_model
from support.pack import load_pack

if TYPE_CHECKING:
    from firered_edit.pipeline.local.model import FireRedModel

load_pack()


def edit(inputs: dict[str, Any], pictures: list[Image.Image]) -> list[Image.Image]:
    """Carry out the ``inputs`` of a submit, at the size the server promised."""
    from firered_edit.pipeline.geometry import Custom
    from firered_edit.pipeline.host import PlainHost
    from firered_edit.pipeline.images import Reference
    from firered_edit.pipeline.local.engine import LocalEngine
    from firered_edit.pipeline.request import TRAINED_REFERENCES, EditRequest

    size = inputs["image_size"]
    references = [Reference(np.asarray(picture)) for picture in pictures[:TRAINED_REFERENCES]]
    request = EditRequest(
        prompt=inputs["prompt"],
        references=tuple(references),
        size=Custom(size["width"], size["height"]),
        num_images=inputs["num_images"],
        seed=inputs["seed"],
        num_inference_steps=inputs["num_inference_steps"],
        guidance_scale=inputs["guidance_scale"],
        negative_prompt=inputs["negative_prompt"],
        acceleration="none",
        working_megapixels=0.0,
    )
    images = LocalEngine(_model(), PlainHost()).edit(request).images
    return [Image.fromarray(np.rint(image.numpy() * 255).astype(np.uint8)) for image in images]


@cache
def _model() -> FireRedModel:
    from firered_edit.pipeline.host import PlainHost
    from firered_edit.pipeline.local.weights import load_folder

    return load_folder(build_tiny_model(Path(_folder().name) / "tiny"), "auto", PlainHost())


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Weights are read from disk when they are used: the folder lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="firered-tiny-")
