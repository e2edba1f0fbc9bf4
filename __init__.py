"""FireRed Edit: FireRed-Image-Edit 1.1 in ComfyUI, on your own GPU or on fal.ai."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> ComfyExtension:
    """ComfyUI's entry point; the nodes are imported only when it asks for them."""
    from .nodes import FireRedExtension

    return FireRedExtension()
