"""An edit as fal's endpoint document wants it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..checks import check_choice, check_range
from ..geometry import Preset, Size
from ..preparation import Prepared

OutputFormat = Literal["png", "jpeg"]
UploadQuality = Literal["lossless", "jpeg 95"]
MAX_COST = (0.0, 1000.0)


@dataclass(frozen=True)
class FalOptions:
    """What only fal knows of an edit. ``max_cost`` is in US dollars for the whole run."""

    enable_safety_checker: bool = True
    output_format: OutputFormat = "png"
    sync_mode: bool = False
    upload_quality: UploadQuality = "lossless"
    max_cost: float = 1.0

    def check(self) -> None:
        """Raise ``InputError`` for a value that no widget offers, as a link may bring one."""
        for name, allowed in (("output_format", OutputFormat), ("upload_quality", UploadQuality)):
            check_choice(name, getattr(self, name), get_args(allowed))
        check_range("max_cost", self.max_cost, MAX_COST)


def build_payload(prepared: Prepared, options: FalOptions, image_urls: list[str]) -> dict[str, Any]:
    """The body of the submit: every field of the document, none left to a default."""
    request = prepared.request
    return {
        "prompt": prepared.prompt,
        "image_urls": image_urls,
        "image_size": _image_size(prepared),
        "num_inference_steps": request.num_inference_steps,
        "seed": request.seed,
        "guidance_scale": request.guidance_scale,
        "sync_mode": options.sync_mode,
        "num_images": request.num_images,
        "enable_safety_checker": options.enable_safety_checker,
        "output_format": options.output_format,
        "negative_prompt": request.negative_prompt,
        "acceleration": request.acceleration,
    }


def _image_size(prepared: Prepared) -> str | dict[str, int]:
    canvas, policy = prepared.plan.canvas, prepared.request.size
    if isinstance(policy, Preset) and canvas == prepared.plan.output:
        return policy.name
    return _dimensions(canvas)


def _dimensions(size: Size) -> dict[str, int]:
    return {"width": size.width, "height": size.height}


def body_length(payload: dict[str, Any], pictures: int) -> int:
    """Bytes of the request with an empty address for each of its ``pictures``."""
    return len(json.dumps({**payload, "image_urls": [""] * pictures}).encode())
