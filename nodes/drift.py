"""FireRed Measure Drift: how far an edit moved what it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..pipeline.drift import compare, describe, to_json
from .host import image_device, image_dtype, node_run
from .inputs import CATEGORY

if TYPE_CHECKING:
    import torch


class FireRedMeasureDrift(io.ComfyNode):
    """Measures an edit against its source, and can move it back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedMeasureDrift",
            display_name="FireRed Measure Drift",
            category=CATEGORY,
            description="Measure how far an edit shifted, zoomed and recoloured what it should "
            "have left alone, and undo shift and zoom.",
            search_aliases=["firered", "align images", "registration", "pixel shift", "对齐"],
            inputs=[
                io.Image.Input(
                    "before", tooltip="The picture before the edit: one for all, or one for each."
                ),
                io.Image.Input(
                    "after",
                    tooltip="The edit, or a batch of them. Another size of the same aspect is "
                    "scaled to that of before.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the edit was meant to change the picture: only the rest "
                    "is measured. An empty mask means all is measured.",
                ),
                io.Boolean.Input(
                    "align",
                    default=False,
                    tooltip="Move the edit back to where before is: shift and scale are undone, "
                    "edges repeated, colours left as they are.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="The edit, moved back with align, else unchanged.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What was measured, as JSON."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        before: torch.Tensor,
        after: torch.Tensor,
        align: bool,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        with node_run() as host:
            found = compare(before, after, mask, align, host)
            host.say(describe(found))
            if found.images is None:
                return io.NodeOutput(after, to_json(found))
            images = found.images.to(image_device(), image_dtype())
            return io.NodeOutput(images, to_json(found))
