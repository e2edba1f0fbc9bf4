"""FireRed Crop Region and FireRed Paste Region: an edit of a part of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..pipeline.geometry import MEGAPIXELS
from ..pipeline.region import CONTEXT, FEATHER, GROW, crop_region, paste_region
from .host import image_device, image_dtype, node_run
from .inputs import CATEGORY

if TYPE_CHECKING:
    import torch

    from ..pipeline.region import Region

FireRedRegionType = io.Custom("FIRERED_REGION")

ALIASES = ["firered", "inpaint crop", "crop and stitch", "region edit", "masked edit", "局部编辑"]


class FireRedCropRegion(io.ComfyNode):
    """Cuts what surrounds a mask out of a picture, for an edit node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedCropRegion",
            display_name="FireRed Crop Region",
            category=CATEGORY,
            description="Cut the part of a picture around a mask, at the size the model works at. "
            "Edit the crop, then put it back with FireRed Paste Region.",
            search_aliases=ALIASES,
            inputs=[
                io.Image.Input("image", tooltip="One picture of any size."),
                io.Mask.Input("mask", tooltip="White where the edit may change the picture."),
                *_spreading(),
                *_framing(),
            ],
            outputs=[
                io.Image.Output("crop", display_name="crop", tooltip="For the edit's image_1."),
                FireRedRegionType.Output(
                    "region", display_name="region", tooltip="For FireRed Paste Region."
                ),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="What will be replaced, after growth and feather, in the picture's "
                    "size.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        mask: torch.Tensor,
        grow: int,
        feather: int,
        context: float,
        working_megapixels: float,
    ) -> io.NodeOutput:
        with node_run() as host:
            region = crop_region(image, mask, grow, feather, context, working_megapixels)
            host.say(region.describe())
            device = image_device()
            crop = region.crop[None].to(device, image_dtype())
            return io.NodeOutput(crop, region, region.mask.laid_on(region.size)[None].to(device))


class FireRedPasteRegion(io.ComfyNode):
    """Puts an edited crop back into its picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedPasteRegion",
            display_name="FireRed Paste Region",
            category=CATEGORY,
            description="Put an edited crop back into its picture. Nothing outside the mask "
            "changes.",
            search_aliases=ALIASES,
            inputs=[
                io.Image.Input(
                    "edited",
                    tooltip="The edit of the crop, or a batch of them. Another size is scaled.",
                ),
                FireRedRegionType.Input("region", tooltip="From FireRed Crop Region."),
                io.Boolean.Input(
                    "match_colour",
                    default=True,
                    tooltip="Undo the change of colour that the edit made around the mask. Turn it "
                    "off for an edit that is meant to change the light.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="The whole picture, one for each edit.",
                )
            ],
        )

    @classmethod
    def execute(cls, edited: torch.Tensor, region: Region, match_colour: bool) -> io.NodeOutput:
        with node_run() as host:
            pasted = paste_region(edited, region, match_colour)
            host.say(pasted.describe())
            return io.NodeOutput(pasted.images.to(image_device(), image_dtype()))


def _spreading() -> list[io.Input]:
    return [
        io.Int.Input(
            "grow",
            default=16,
            min=GROW[0],
            max=GROW[1],
            tooltip="Pixels by which the mask is made larger, so that no rim of the old content "
            "stays.",
        ),
        io.Int.Input(
            "feather",
            default=16,
            min=FEATHER[0],
            max=FEATHER[1],
            tooltip="Pixels over which the edit fades into the picture, outside the grown mask. "
            "0 is a hard edge.",
        ),
    ]


def _framing() -> list[io.Input]:
    return [
        io.Float.Input(
            "context",
            default=1.5,
            min=CONTEXT[0],
            max=CONTEXT[1],
            step=0.1,
            tooltip="How much around the mask the model sees: sides of the crop in those of the "
            "grown mask. More context fits in better, less keeps more detail.",
        ),
        io.Float.Input(
            "working_megapixels",
            default=1.0,
            min=MEGAPIXELS[0],
            max=MEGAPIXELS[1],
            step=0.1,
            tooltip="About how many million pixels the crop has. 1.0 is what the model was trained "
            "at and what fal bills as one megapixel; above it, give the local edit node the same.",
        ),
    ]
