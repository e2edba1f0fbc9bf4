"""Edits on fal that nobody waits for any more: listed, followed to their end, and saved.

fal's side is imported only where there is something to look at: an artist who never ordered an edit
pays nothing for it, at start or later.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy.cli_args import args
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...pipeline.errors import FireRedError, InputError, MissingPackageError, SetupError
from ...pipeline.images import to_uint8
from . import folders

if TYPE_CHECKING:
    import torch

    from ...pipeline.fal.backlog import Backlog, Waiting

logger = logging.getLogger(__name__)

START_AFTER_S = 3.0
"""Until then ComfyUI is busy with its own start."""

PREFIX = "FireRed"
CHUNK = "firered"
"""The text of a saved PNG that says which edit it is."""

_JOURNAL = "journal.db"
"""It is there from the first edit on; its own package would have to be imported to be asked."""

_collecting = Lock()


def waiting_jobs() -> dict[str, Any]:
    """The edits that wait, the latest first, and US dollars spent since midnight, as JSON."""
    folder = folders.data_folder()
    if not has_journal(folder):
        return {"jobs": [], "spent_today": 0.0}
    backlog = _backlog(folder)
    jobs = [asdict(waiting) for waiting in backlog.waiting()]
    return {"jobs": jobs, "spent_today": backlog.spent_today()}


def collect(key: str) -> list[str]:
    """Save the pictures of a finished edit into ComfyUI's output folder; their file names.

    Raises ``InputError`` where no such edit waits, ``SetupError`` where they cannot be saved; the
    edit then waits on.
    """
    folder = folders.data_folder()
    # Two pages may show the same row: whoever comes second finds it gone.
    with _collecting:
        backlog, waiting = _found(folder, key)
        files = _save(backlog.pictures(key), _description(waiting))
        backlog.collected(key)
    logger.info("request %s on fal was collected: %s", waiting.request_id, ", ".join(files))
    return files


def give_up(key: str) -> None:
    """Wait for an edit no more; it is never listed again. ``InputError`` where none such waits."""
    with _collecting:
        backlog, waiting = _found(folders.data_folder(), key)
        backlog.give_up(key)
    logger.info("request %s on fal was given up", waiting.request_id)


def _found(folder: Path, key: str) -> tuple[Backlog, Waiting]:
    """The edit of that ``key``, which waits, and the list that it is on."""
    backlog = _backlog(folder) if has_journal(folder) else None
    listed = backlog.waiting() if backlog else []
    waiting = next((waiting for waiting in listed if waiting.key == key), None)
    if backlog is None or waiting is None:
        raise InputError("This edit does not wait to be collected.", "Refresh the list.")
    return backlog, waiting


def follow_at_start() -> None:
    """Soon, follow what an earlier process left at fal; nothing where no edit was ever ordered."""
    folder = folders.data_folder()
    if has_journal(folder):
        timer = Timer(START_AFTER_S, _follow, [folder])
        timer.name = "firered-fal-start"
        timer.daemon = True
        timer.start()


def _follow(folder: Path) -> None:
    try:
        from ...pipeline.fal.collecting import collector_in

        count = collector_in(folder).follow_all()
    except (FireRedError, ImportError) as error:
        logger.info("edits left at fal are not followed: %s", error)
    else:
        if count:
            logger.info("edits left at fal that are followed now: %d", count)


def has_journal(folder: Path) -> bool:
    """Whether an edit was ever ordered."""
    return os.path.isfile(folder / _JOURNAL)


def _backlog(folder: Path) -> Backlog:
    with MissingPackageError.named():
        from ...pipeline.fal.backlog import Backlog
    return Backlog(folder)


def _description(waiting: Waiting) -> PngInfo | None:
    """What a saved picture says of itself; nothing where ComfyUI was told to write nothing."""
    if args.disable_metadata:
        return None
    told = {"prompt": waiting.prompt, "seed": waiting.seed, "request_id": waiting.request_id}
    description = PngInfo()
    description.add_text(CHUNK, json.dumps(told))
    return description


def _save(pictures: Sequence[torch.Tensor], description: PngInfo | None) -> list[str]:
    """Save all of ``pictures``, each (H, W, 3) in 0..1, or none; their file names."""
    encoded = [_encode(picture, description) for picture in pictures]
    saved: list[Path] = []
    try:
        output = folder_paths.get_output_directory()
        folder, name, counter, _, _ = folder_paths.get_save_image_path(PREFIX, output)
        for data in encoded:
            file, counter = _create(Path(folder), name, counter, data)
            saved.append(file)
    except OSError as error:
        for file in saved:
            file.unlink(missing_ok=True)
        raise SetupError(
            f"The pictures cannot be saved: {error.strerror}.",
            "Make room in ComfyUI's output folder and collect them again.",
        ) from error
    return [file.name for file in saved]


def _encode(picture: torch.Tensor, description: PngInfo | None) -> bytes:
    buffer = io.BytesIO()
    pixels = Image.fromarray(to_uint8("The result", picture))
    pixels.save(buffer, "PNG", pnginfo=description, compress_level=4)
    return buffer.getvalue()


def _create(folder: Path, name: str, counter: int, data: bytes) -> tuple[Path, int]:
    """Write ``data`` under the first free number from ``counter`` on; the file, the next number.

    A node may save under the same name meanwhile, so nothing that is there is written over.
    """
    while True:
        file = folder / f"{name}_{counter:05}_.png"
        counter += 1
        try:
            opened = file.open("xb")
        except FileExistsError:
            continue
        try:
            with opened:
                opened.write(data)
                opened.flush()
                # Next the journal says that the artist has it.
                os.fsync(opened.fileno())
        except OSError:
            file.unlink(missing_ok=True)
            raise
        return file, counter
