"""FireRed Load Model: from files on disk to a model the edit node takes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pipeline.errors import InputError, NotYetError
from ..pipeline.local.weights import Precision, load_folder
from .host import folders, node_run
from .inputs import CATEGORY

FireRedModelType = io.Custom("FIRERED_MODEL")

HUB_VERSIONS = ["FireRed-Image-Edit-1.1"]


class FireRedLoadModel(io.ComfyNode):
    """Loads FireRed-Image-Edit once; the edit nodes of a graph share it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedLoadModel",
            display_name="FireRed Load Model",
            category=CATEGORY,
            description="Load FireRed-Image-Edit for FireRed Edit (Local).",
            search_aliases=["firered", "load firered", "diffusers loader"],
            inputs=[_source(), _precision()],
            outputs=[
                FireRedModelType.Output(
                    "model", display_name="model", tooltip="For FireRed Edit (Local)."
                )
            ],
        )

    @classmethod
    def execute(
        cls, source: dict[str, Any] | None = None, precision: Precision = "auto"
    ) -> io.NodeOutput:
        with node_run() as host:
            path = folders.diffusers_folder(_folder_name(source))
            return io.NodeOutput(load_folder(path, precision, host))


def _source() -> io.Input:
    return io.DynamicCombo.Input(
        "source",
        options=[
            io.DynamicCombo.Option("files", _file_inputs()),
            io.DynamicCombo.Option(
                "folder",
                [
                    io.Combo.Input(
                        "folder",
                        options=folders.diffusers_folders(),
                        tooltip="A FireRed-Image-Edit folder in models/diffusers.",
                    )
                ],
            ),
            io.DynamicCombo.Option(
                "hub",
                [
                    io.Combo.Input(
                        "version",
                        options=HUB_VERSIONS,
                        tooltip="A release of FireRedTeam, downloaded after consent in Settings.",
                    )
                ],
            ),
        ],
        tooltip="Where the model comes from. This version loads a folder in the layout of "
        "diffusers; single files and downloads follow.",
    )


def _file_inputs() -> list[io.Input]:
    kinds = {
        "diffusion_model": ("diffusion_models", "The transformer's file."),
        "text_encoder": ("text_encoders", "The Qwen2.5-VL text encoder's file."),
        "vae": ("vae", "The Qwen image VAE's file."),
    }
    return [
        io.Combo.Input(name, options=folders.files(kind), tooltip=tooltip)
        for name, (kind, tooltip) in kinds.items()
    ]


def _precision() -> io.Input:
    return io.Combo.Input(
        "precision",
        options=["auto", "bf16", "fp8", "int8"],
        default="auto",
        tooltip="auto keeps the precision the model was stored in.",
    )


def _folder_name(source: dict[str, Any] | None) -> str:
    match source:
        case {"source": "folder", "folder": str(name)}:
            return name
        case {"source": "files" | "hub" as kind}:
            raise NotYetError(
                f"source {kind} is not available yet.",
                "Choose folder and put the FireRed-Image-Edit-1.1 folder into models/diffusers.",
            )
    raise InputError(f"The source is {source!r}.", "Choose folder and a model folder.")
