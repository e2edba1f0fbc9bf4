"""The inputs both edit nodes share: one list, one order, one translation to a request.

Ids, types, ranges and order are part of every saved workflow and never change.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pipeline.errors import InputError
from ..pipeline.geometry import PRESETS, Custom, MatchImage, Megapixels, Preset, SizePolicy
from ..pipeline.images import MAX_REFERENCES, references_from
from ..pipeline.request import (
    ACCELERATIONS,
    GUIDANCE,
    MAX_SEED,
    NUM_IMAGES,
    STEPS,
    WORKING_MEGAPIXELS,
    EditRequest,
    EditResult,
)

if TYPE_CHECKING:
    import torch

CATEGORY = "FireRed"

SEARCH_ALIASES = ["firered", "image edit", "instruction edit", "qwen image edit", "try-on", "改图"]


@dataclass(frozen=True)
class Defaults:
    """Where the two nodes start from different values."""

    num_inference_steps: int
    acceleration: str
    acceleration_tooltip: str
    working_megapixels: float
    num_images_tooltip: str = "How many variants to make; they come out as one batch."


def shared_inputs(defaults: Defaults) -> list[io.Input]:
    """The inputs of an edit, in their frozen order."""
    return [
        _prompt(),
        _images(),
        _size(),
        *_sampling(defaults),
        io.Combo.Input(
            "acceleration",
            options=list(ACCELERATIONS),
            default=defaults.acceleration,
            tooltip=defaults.acceleration_tooltip,
        ),
        _working_megapixels(defaults.working_megapixels),
    ]


def _prompt() -> io.Input:
    return io.String.Input(
        "prompt",
        multiline=True,
        dynamic_prompts=True,
        default="",
        tooltip="What to change, in English or Chinese. Name a picture with @image2 or @图2.",
    )


def _images() -> io.Input:
    names = [f"image_{number}" for number in range(1, MAX_REFERENCES + 1)]
    picture = io.Image.Input("image", tooltip="A picture of any size. A batch counts as several.")
    return io.Autogrow.Input(
        "images",
        template=io.Autogrow.TemplateNames(picture, names=names, min=1),
        tooltip="The pictures to edit from. The first is the one that is edited; the node shows "
        "their numbers.",
    )


def _size() -> io.Input:
    side = {"min": 64, "max": 8192, "default": 1024}
    return io.DynamicCombo.Input(
        "size",
        options=[
            io.DynamicCombo.Option("match image", [_index()]),
            io.DynamicCombo.Option("preset", [_preset()]),
            io.DynamicCombo.Option(
                "custom",
                [
                    io.Int.Input("width", tooltip="Width of the result in pixels.", **side),
                    io.Int.Input("height", tooltip="Height of the result in pixels.", **side),
                ],
            ),
            io.DynamicCombo.Option("megapixels", [_megapixels()]),
        ],
        tooltip="The size of the result. match image gives exactly the width and height of that "
        "picture; another aspect than its own lets the model recompose it.",
    )


def _index() -> io.Input:
    return io.Int.Input(
        "index",
        default=1,
        min=1,
        max=MAX_REFERENCES,
        tooltip="Which picture's width and height the result has.",
    )


def _preset() -> io.Input:
    return io.Combo.Input(
        "preset",
        options=list(PRESETS),
        default=next(iter(PRESETS)),
        tooltip="One of fal's sizes: square_hd is 1024x1024, landscape_4_3 is 1024x768.",
    )


def _megapixels() -> io.Input:
    return io.Float.Input(
        "megapixels",
        default=1.0,
        min=0.1,
        max=16.0,
        step=0.1,
        tooltip="Area of the result in units of 1024x1024 pixels, in the aspect of image 1; both "
        "sides a multiple of 16.",
    )


def _sampling(defaults: Defaults) -> list[io.Input]:
    return [
        io.Int.Input(
            "num_images",
            default=1,
            min=NUM_IMAGES[0],
            max=NUM_IMAGES[1],
            tooltip=defaults.num_images_tooltip,
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,
            tooltip="The same seed and the same inputs give the same picture.",
        ),
        io.Int.Input(
            "num_inference_steps",
            default=defaults.num_inference_steps,
            min=STEPS[0],
            max=STEPS[1],
            tooltip="More steps are slower and usually better. FireRed's own setting is 40.",
        ),
        io.Float.Input(
            "guidance_scale",
            default=4.0,
            min=GUIDANCE[0],
            max=GUIDANCE[1],
            step=0.1,
            tooltip="How closely the prompt is followed. 1.0 switches guidance off and halves "
            "the time.",
        ),
        io.String.Input(
            "negative_prompt",
            multiline=True,
            default="",
            tooltip="What the result should not show. Without effect at guidance 1.0.",
        ),
    ]


def _working_megapixels(default: float) -> io.Input:
    return io.Float.Input(
        "working_megapixels",
        default=default,
        min=0.0,
        max=WORKING_MEGAPIXELS[1],
        step=0.05,
        advanced=True,
        tooltip="The area the edit runs at, in units of 1024x1024 pixels; the result is scaled to "
        "its size afterwards. 1.0 is what the model was trained at, 0 is the result's own size.",
    )


def outputs() -> list[io.Output]:
    """The outputs of an edit, in their frozen order."""
    return [
        io.Image.Output("images", display_name="images", tooltip="The edited pictures, one batch."),
        io.Int.Output("seed", display_name="seed", tooltip="The seed that was used."),
        io.String.Output(
            "receipt", display_name="receipt", tooltip="What was really done, as JSON."
        ),
    ]


class EditNode(io.ComfyNode):
    """What both edit nodes check before a run begins."""

    @classmethod
    def validate_inputs(
        cls, prompt: str | None = None, *, images: Any = None, size: Any = None
    ) -> bool | str:
        """An empty prompt is refused; a linked one arrives as None and is checked when known.

        ComfyUI passes the dynamic inputs along whether they are wanted or not. As keywords they
        keep its own checks, and only the prompt is marked as wrong.
        """
        if prompt is None or prompt.strip():
            return True
        return "The prompt is empty. Write what to change in the picture."


def to_request(
    prompt: str,
    images: dict[str, torch.Tensor],
    size: dict[str, Any] | None,
    **sampling: Any,
) -> EditRequest:
    """What the widgets say, in the vocabulary of the engines.

    Raises ``InputError`` for what ComfyUI lets through: slots and choices that do not exist.
    """
    if unknown := sampling.keys() - _SAMPLING_NAMES:
        raise InputError(
            f"There is no input {', '.join(sorted(unknown))}.",
            f"Pictures go to image_1 to image_{MAX_REFERENCES}.",
        )
    references = references_from(images)
    return EditRequest(prompt=prompt, references=references, size=_policy(size), **sampling)


_SAMPLING_NAMES = {field.name for field in fields(EditRequest)} - {"prompt", "references", "size"}


def _policy(size: dict[str, Any] | None) -> SizePolicy:
    match size:
        case {"size": "match image", "index": index}:
            return MatchImage(index)
        case {"size": "preset", "preset": name}:
            return Preset(name)
        case {"size": "custom", "width": width, "height": height}:
            return Custom(width, height)
        case {"size": "megapixels", "megapixels": megapixels}:
            return Megapixels(megapixels)
    raise InputError(
        f"The size is {size!r}.",
        "Choose match image, preset, custom or megapixels with its values.",
    )


def to_output(result: EditResult, device: torch.device, dtype: torch.dtype) -> io.NodeOutput:
    """A result as the node's outputs, on ComfyUI's device and in its dtype for pictures."""
    images = result.images.to(device, dtype)
    return io.NodeOutput(images, result.seed, result.receipt.to_json())
