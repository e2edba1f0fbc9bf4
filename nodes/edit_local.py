"""FireRed Edit (Local): an edit on this machine's GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pipeline.local.engine import LocalEngine
from ..pipeline.local.latents import Noise
from .host import image_device, image_dtype, node_run
from .inputs import (
    CATEGORY,
    SEARCH_ALIASES,
    Defaults,
    EditNode,
    outputs,
    shared_inputs,
    to_output,
    to_request,
)
from .model import FireRedModelType, check_model

if TYPE_CHECKING:
    from ..pipeline.local.model import FireRedModel

DEFAULTS = Defaults(
    num_inference_steps=40,
    acceleration="none",
    acceleration_tooltip="none is the reference mathematics exactly. regular is the same up to "
    "rounding, in faster kernels. high leaves out steps that would change little, by an "
    "approximation that needs the package cache-dit.",
    working_megapixels=1.0,
)


class FireRedEdit(EditNode):
    """Edits on the local GPU. Synchronous: one card, one edit at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedEdit",
            display_name="FireRed Edit (Local)",
            category=CATEGORY,
            description="Change a picture by an instruction, with up to three reference pictures, "
            "on your own GPU.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                FireRedModelType.Input("model", tooltip="From FireRed Load Model."),
                *shared_inputs(DEFAULTS),
                io.Combo.Input(
                    "noise",
                    options=["cpu", "gpu"],
                    default="cpu",
                    advanced=True,
                    tooltip="Where the noise is drawn. cpu gives the same on every machine and "
                    "equals KSampler's; gpu is what FireRed's own script does.",
                ),
            ],
            outputs=outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: FireRedModel,
        noise: Noise = "cpu",
        images: dict[str, Any] | None = None,
        size: dict[str, Any] | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        with node_run() as host:
            check_model(model)
            request = to_request(images=images or {}, size=size, **widgets)
            result = LocalEngine(model, host, noise).edit(request)
            return to_output(result, image_device(), image_dtype())
