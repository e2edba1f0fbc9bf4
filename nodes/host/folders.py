"""Where ComfyUI keeps model files and private data."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...pipeline.host import chosen_data_folder
from ...pipeline.local.weights import missing_folder

_DATA_NAME = "firered"


def files(kind: str) -> list[str]:
    """Names of the model files of a ComfyUI folder kind, such as ``diffusion_models``."""
    return list(folder_paths.get_filename_list(kind))


def diffusers_folders() -> list[str]:
    """Names of the model folders under ``models/diffusers``, at most two levels deep."""
    return sorted(_diffusers_folders())


def diffusers_folder(name: str) -> Path:
    """The folder of that name; only what is listed can be named."""
    found = _diffusers_folders().get(name)
    if found is None:
        raise missing_folder(name)
    return found


def _diffusers_folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        for pattern in ("*/model_index.json", "*/*/model_index.json"):
            for index in root.glob(pattern):
                found.setdefault(index.parent.relative_to(root).as_posix(), index.parent)
    return found


def data_folder() -> Path:
    """The private folder of this pack: out of reach of ComfyUI's HTTP routes."""
    return chosen_data_folder(Path(folder_paths.get_system_user_directory(_DATA_NAME)))
