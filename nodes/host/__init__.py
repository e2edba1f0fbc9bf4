"""The only bridge to ComfyUI's insides: reporting, cancel, folders, settings, memory, threads."""

from . import folders, settings
from .comfy_host import ComfyHost, node_run
from .memory import image_device, image_dtype
from .threads import in_own_thread

__all__ = [
    "ComfyHost",
    "folders",
    "image_device",
    "image_dtype",
    "in_own_thread",
    "node_run",
    "settings",
]
