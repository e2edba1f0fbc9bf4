"""What an artist sees. Schema and glue only; how an edit is done lives in ``pipeline``."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .drift import FireRedMeasureDrift
from .edit_fal import FireRedEditFal
from .edit_local import FireRedEdit
from .host import collecting, routes
from .model import FireRedLoadLora, FireRedLoadModel
from .references import FireRedStitchReferences
from .region import FireRedCropRegion, FireRedPasteRegion


class FireRedExtension(ComfyExtension):
    """The pack, as ComfyUI asks for it."""

    async def on_load(self) -> None:
        routes.register()
        collecting.follow_at_start()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            FireRedLoadModel,
            FireRedLoadLora,
            FireRedEdit,
            FireRedEditFal,
            FireRedStitchReferences,
            FireRedCropRegion,
            FireRedPasteRegion,
            FireRedMeasureDrift,
        ]
