"""FireRed Edit (fal): the same edit on fal.ai."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..pipeline.errors import MissingPackageError
from ..pipeline.fal.payload import FalOptions
from ..pipeline.request import EditResult
from .host import ComfyHost, image_device, image_dtype, in_own_thread, node_run
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

if TYPE_CHECKING:
    from ..pipeline.fal.engine import FalEngine

DEFAULTS = Defaults(
    num_inference_steps=30,
    acceleration="regular",
    acceleration_tooltip="How much fal trades for speed: regular is fal's own default.",
    working_megapixels=0.0,
    num_images_tooltip="How many variants to make; they come out as one batch. fal bills each, and "
    "another number is another edit: all of them are billed again.",
)

_OPTIONS = [field.name for field in fields(FalOptions)]


class FireRedEditFal(EditNode):
    """Edits on fal.ai. Asynchronous: several run at once, and beside local nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedEditFal",
            display_name="FireRed Edit (fal)",
            category=CATEGORY,
            description="Change a picture by an instruction, with reference pictures, on fal.ai. "
            "Needs a fal key and costs $0.0325 per megapixel of result. What was paid once is not "
            "paid again: the same edit comes from disk.",
            search_aliases=[*SEARCH_ALIASES, "fal", "remote", "cloud"],
            inputs=[*shared_inputs(DEFAULTS), *_fal_inputs()],
            outputs=outputs(),
        )

    @classmethod
    async def execute(
        cls,
        images: dict[str, Any] | None = None,
        size: dict[str, Any] | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        def edit(host: ComfyHost) -> EditResult:
            options = FalOptions(**{name: widgets.pop(name) for name in _OPTIONS})
            request = to_request(images=images or {}, size=size, **widgets)
            return _engine(host).edit(request, options)

        with node_run() as host:
            # Nothing may be raised before this: of a list, ComfyUI would then leave the elements
            # behind that have begun already.
            result = await in_own_thread(lambda: edit(host))
            return to_output(result, image_device(), image_dtype())


def _engine(host: ComfyHost) -> FalEngine:
    """Imported with the first edit: an artist who has none on fal starts without it."""
    with MissingPackageError.named():
        from ..pipeline.fal.engine import FalEngine
    return FalEngine(host)


def _fal_inputs() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "enable_safety_checker",
            default=True,
            advanced=True,
            tooltip="fal checks the result. Switching it off needs an account that may.",
        ),
        io.Combo.Input(
            "output_format",
            options=["png", "jpeg"],
            default="png",
            advanced=True,
            tooltip="How the result travels. png is lossless.",
        ),
        io.Boolean.Input(
            "sync_mode",
            default=False,
            advanced=True,
            tooltip="Private: the picture comes inside the answer and is not kept in fal's "
            "history. It can then not be recovered after a crash.",
        ),
        io.Combo.Input(
            "upload_quality",
            options=["lossless", "jpeg 95"],
            default="lossless",
            advanced=True,
            tooltip="How the pictures travel to fal. jpeg 95 is about five times smaller.",
        ),
        io.Float.Input(
            "max_cost",
            default=1.0,
            min=0.0,
            max=1000.0,
            step=0.01,
            advanced=True,
            tooltip="The most one press of Run may cost in US dollars, all fal nodes and list "
            "elements together. Checked before anything is sent.",
        ),
    ]
