"""Where ComfyUI keeps model files and private data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import comfy.text_encoders
import folder_paths

from ...pipeline.errors import MissingModelError
from ...pipeline.host import chosen_data_folder
from ...pipeline.local.gguf_files import SUFFIX
from ...pipeline.local.weights import missing_folder

_DATA_NAME = "firered"


def file(kind: str, name: str) -> Path:
    """The model file of that name in one of ComfyUI's folders, and nowhere else."""
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise MissingModelError(
            f"There is no file {name!r} in models/{kind}.", "Choose one that is there."
        )
    return Path(found)


def tokenizer_folder() -> Path:
    """Qwen2.5's vocabulary, which ComfyUI brings for its own text encoders."""
    return Path(comfy.text_encoders.__path__[0]) / "qwen25_tokenizer"


def files(kind: str) -> list[str]:
    """Names of the model files of a ComfyUI folder kind, such as ``diffusion_models``.

    GGUF files of transformers are among them, though ComfyUI itself does not list them.
    """
    listed = list(folder_paths.get_filename_list(kind))
    if kind != "diffusion_models":
        return listed
    new = set(_gguf_files(kind)) - {Path(name).as_posix() for name in listed}
    return sorted([*listed, *new])


def _gguf_files(kind: str) -> Iterator[str]:
    for root in folder_paths.get_folder_paths(kind):
        names, _ = folder_paths.recursive_search(root, excluded_dir_names=[".git"])
        for name in folder_paths.filter_files_extensions(names, [SUFFIX]):
            yield Path(name).as_posix()


def diffusers_folders() -> list[str]:
    """Names of the model folders under ``models/diffusers``, at most two levels deep."""
    return sorted(_diffusers_folders())


def diffusers_folder(name: str) -> Path:
    """The folder of that name; only what is listed can be named."""
    found = _diffusers_folders().get(name)
    if found is None:
        raise missing_folder(name)
    return found


def download_folder(name: str) -> Path:
    """Where the model folder of that name is, or belongs: in the first of ComfyUI's folders."""
    first = Path(folder_paths.get_folder_paths("diffusers")[0])
    return _diffusers_folders().get(name, first / name)


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
