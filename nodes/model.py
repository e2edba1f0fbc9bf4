"""FireRed Load Model and FireRed Load LoRA: from files on disk to a model the edit node takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pipeline.checks import check_kind
from ..pipeline.errors import InputError
from ..pipeline.host import Reporter
from ..pipeline.local.hub import RELEASES, download, find_release, is_complete
from ..pipeline.local.loras import use_lora
from ..pipeline.local.model import PRECISIONS, FireRedModel, Precision
from ..pipeline.local.sharing import LoadedModels
from ..pipeline.local.weights import ModelFiles, load_files, load_folder
from .host import folders, node_run, settings
from .inputs import CATEGORY

FireRedModelType = io.Custom("FIRERED_MODEL")

_loaded = LoadedModels()
"""Loader nodes on the same files share a model."""


def check_model(model: object) -> None:
    """Raise ``InputError`` for what is no model of this pack, such as ComfyUI's own MODEL."""
    check_kind("model", model, FireRedModel, "Connect FireRed Load Model.")


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
            match source:
                case {"source": "files", "diffusion_model": str(name), **others}:
                    files = ModelFiles(
                        folders.file("diffusion_models", name),
                        folders.file("text_encoders", str(others["text_encoder"])),
                        folders.file("vae", str(others["vae"])),
                    )
                    return io.NodeOutput(load_files(files, precision, host, _loaded))
                case {"source": "folder", "folder": str(name)}:
                    folder = folders.diffusers_folder(name)
                    return io.NodeOutput(load_folder(folder, precision, host, _loaded))
                case {"source": "hub", "version": str(version)}:
                    folder = _hub_folder(version, host)
                    return io.NodeOutput(load_folder(folder, precision, host, _loaded))
            raise InputError(f"The source is {source!r}.", "Choose files, folder or hub.")


class FireRedLoadLora(io.ComfyNode):
    """Adds a LoRA to a model; several can follow each other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FireRedLoadLora",
            display_name="FireRed Load LoRA",
            category=CATEGORY,
            description="Add a LoRA to FireRed-Image-Edit, such as Lightning for edits in 8 steps.",
            search_aliases=["firered", "lora", "lightning"],
            inputs=[
                FireRedModelType.Input("model", tooltip="From FireRed Load Model or another LoRA."),
                io.Combo.Input(
                    "lora",
                    options=folders.files("loras"),
                    tooltip="A LoRA of FireRed-Image-Edit or Qwen-Image-Edit in models/loras.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How strongly it changes the model. 0 leaves the model as it is.",
                ),
                io.Boolean.Input(
                    "use_its_schedule",
                    default=True,
                    tooltip="A Lightning LoRA was made for 8 (or 4) steps without guidance. On, it "
                    "sets steps and guidance of the edit node; off, the edit node's widgets count.",
                ),
            ],
            outputs=[
                FireRedModelType.Output(
                    "model", display_name="model", tooltip="For FireRed Edit (Local)."
                )
            ],
        )

    @classmethod
    def execute(
        cls, model: FireRedModel, lora: str, strength: float, use_its_schedule: bool
    ) -> io.NodeOutput:
        with node_run() as host:
            check_model(model)
            file = folders.file("loras", lora)
            return io.NodeOutput(use_lora(model, file, strength, use_its_schedule, host))


def _hub_folder(version: str, host: Reporter) -> Path:
    """The model folder of a release, downloaded first where the artist has allowed that."""
    release, folder = find_release(version), folders.download_folder(version)
    if not is_complete(folder):
        settings.check_downloads_allowed(version, release.size)
    return download(release, folder, host)


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
                        options=list(RELEASES),
                        tooltip="A release of FireRedTeam on Hugging Face. Its first run downloads "
                        "58 GB into models/diffusers, once you allow that in Settings > FireRed.",
                    )
                ],
            ),
        ],
        tooltip="Where the model comes from: the single files that ComfyUI's own FireRed template "
        "uses, a folder in the layout of diffusers, or Hugging Face's hub.",
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
        options=list(PRECISIONS),
        default="auto",
        tooltip="auto keeps what the files are stored in, where the card can hold it; a smaller "
        "card gets 8 bits. fp8 and int8 halve the memory and cost a little accuracy.",
    )
