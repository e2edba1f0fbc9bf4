"""The vocabulary of an edit: what is asked, what comes back, and the receipt.

Names and ranges are those of fal's endpoint document, so that one request means the same to both
engines.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .checks import check_choice, check_kind, check_range
from .errors import InputError

if TYPE_CHECKING:
    import torch

    from .geometry import SizePolicy
    from .images import Reference

PACK_VERSION = "0.1.0"

MAX_SEED = 2**32 - 1
STEPS = (2, 50)
GUIDANCE = (1.0, 10.0)
NUM_IMAGES = (1, 4)
WORKING_MEGAPIXELS = (0.01, 16.0)
"""Besides 0, which means the output's own area."""

TRAINED_REFERENCES = 3
"""How many pictures the model was trained to take."""

_CONTROL_WORD = re.compile(r"<\|\w+\|>")

Acceleration = Literal["none", "regular", "high"]
ACCELERATIONS: tuple[Acceleration, ...] = ("none", "regular", "high")


@dataclass(frozen=True)
class EditRequest:
    """One edit, complete: nothing that decides the picture lives elsewhere.

    ``references`` are numbered from 1 in the prompt. ``seed`` is 0..2**32-1; picture k of a batch
    is drawn from (seed + k) mod 2**32 where the engine can tell. ``guidance_scale`` 1.0 means no
    classifier-free guidance. ``working_megapixels`` is the area the edit runs at, in units of
    1024 x 1024 pixels; 0 is the output's own.
    """

    prompt: str
    references: tuple[Reference, ...]
    size: SizePolicy
    num_images: int
    seed: int
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str
    acceleration: Acceleration
    working_megapixels: float

    def check(self) -> None:
        """Raise ``InputError`` for anything no engine could carry out."""
        for name, text in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt)):
            check_kind(name, text, str, "Connect a text.")
        if not self.prompt.strip():
            raise InputError("The prompt is empty.", "Write what to change in the picture.")
        for text in (self.prompt, self.negative_prompt):
            if control := _CONTROL_WORD.search(text):
                raise InputError(
                    f"The prompt holds {control[0]}, a control word of the model.", "Take it out."
                )
        if not self.references:
            raise InputError("No picture is connected.", "Connect the picture to edit to image_1.")
        check_choice("acceleration", self.acceleration, ACCELERATIONS)
        check_range("num_inference_steps", self.num_inference_steps, STEPS)
        check_range("guidance_scale", self.guidance_scale, GUIDANCE)
        check_range("num_images", self.num_images, NUM_IMAGES)
        check_range("seed", self.seed, (0, MAX_SEED))
        if self.working_megapixels != 0:
            check_range("working_megapixels", self.working_megapixels, WORKING_MEGAPIXELS)


@dataclass
class Receipt:
    """What was really done, enough to repeat the edit. Never a key, never a picture."""

    engine: str
    model: str
    prompt: str
    negative_prompt: str
    seeds: list[int]
    num_images: int
    num_inference_steps: int
    guidance_scale: float
    acceleration: str
    references: list[str]
    size: str
    working_megapixels: float
    canvas: str
    output: str
    locked: bool
    pack_version: str = PACK_VERSION
    notices: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The receipt as indented JSON, keys in reading order."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class EditResult:
    """``images`` (B, H, W, 3) float32 in 0..1 on the CPU, exactly the size asked for."""

    images: torch.Tensor
    seed: int
    receipt: Receipt
