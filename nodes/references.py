"""FireRed Stitch References: more pictures than the model takes, put together to three."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pipeline.errors import InputError
from ..pipeline.images import references_from, to_tensor
from ..pipeline.stitching import COUNT, stitch
from .host import image_device, image_dtype, node_run
from .inputs import CATEGORY

if TYPE_CHECKING:
    import torch


class FireRedStitchReferences(io.ComfyNode):
    """Four to twelve references in, three out, and the prompt that names them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedStitchReferences",
            display_name="FireRed Stitch References",
            category=CATEGORY,
            description="Put 4 to 12 reference pictures together to three, the most that FireRed "
            "takes, and name them anew in the prompt.",
            search_aliases=["firered", "stitch", "collage", "many references", "try-on", "拼图"],
            inputs=[
                _images(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The prompt of the edit, naming the pictures as they are numbered "
                    "here. Connect the output prompt to the edit node.",
                ),
                _masks(),
                io.Boolean.Input(
                    "background",
                    default=True,
                    tooltip="Image 1 is the picture to edit: it stays alone, in its own size. "
                    "Off, it is put together with the others.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        background: bool,
        images: dict[str, torch.Tensor] | None = None,
        masks: dict[str, torch.Tensor] | None = None,
        **unknown: Any,
    ) -> io.NodeOutput:
        with node_run() as host:
            _check_known(unknown)
            references = references_from(images or {}, limit=COUNT[1])
            marked = {int(name.removeprefix("mask_")): mask for name, mask in (masks or {}).items()}
            stitched = stitch(references, prompt, marked, background)
            host.say(stitched.summary())
            device, dtype = image_device(), image_dtype()
            batches = [to_tensor(pixels)[None].to(device, dtype) for pixels in stitched.pixels]
            return io.NodeOutput(*batches, stitched.prompt)


def _images() -> io.Input:
    picture = io.Image.Input("image", tooltip="A picture of any size. A batch counts as several.")
    return io.Autogrow.Input(
        "images",
        template=io.Autogrow.TemplateNames(picture, names=_names("image"), min=COUNT[0]),
        tooltip="The pictures, numbered in this order. The first is the one that is edited.",
    )


def _masks() -> io.Input:
    mask = io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Marks the part of a picture that counts: mask_2 that of image 2. An empty mask "
        "means the whole picture.",
    )
    # As many sockets at first as pictures: those do not move up when one of them is disconnected.
    return io.Autogrow.Input(
        "masks",
        template=io.Autogrow.TemplateNames(mask, names=_names("mask"), min=COUNT[0]),
        optional=True,
        tooltip="The parts of the pictures that count; only these are put together.",
    )


def _names(kind: str) -> list[str]:
    return [f"{kind}_{number}" for number in range(1, COUNT[1] + 1)]


def _outputs() -> list[io.Output]:
    composites = [
        io.Image.Output(
            f"composite_{number}",
            display_name=f"composite_{number}",
            tooltip=f"For image_{number} of the edit node.",
        )
        for number in (1, 2, 3)
    ]
    prompt = io.String.Output(
        "prompt",
        display_name="prompt",
        tooltip="The prompt with the pictures named by composite and place.",
    )
    return [*composites, prompt]


def _check_known(unknown: dict[str, Any]) -> None:
    if unknown:
        raise InputError(
            f"There is no input {', '.join(sorted(unknown))}.",
            f"Pictures go to image_1 to image_{COUNT[1]}, masks to mask_1 to mask_{COUNT[1]}.",
        )
