"""A process that carries out many edits on fal, beside others on the same journal, for fal_soak.py.

Its argument is the data folder, a line of JSON on stdin the numbers of its edits. Each line of JSON
on stdout is an ``Ended`` or a ``Footprint``. An edit that ends in an error is queued again, as an
artist would; killed and started again with what is left of its list, it goes on.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import active_count
from typing import TYPE_CHECKING

import numpy as np
import psutil

from support.pack import load_pack

if TYPE_CHECKING:
    from firered_edit.pipeline.images import Pixels

THREADS = 20
"""As in ComfyUI: a window of 16, and four edits that are prepared meanwhile."""

QUEUED_AGAIN = 5
"""How often an edit that ended in an error is queued once more."""

WARM = 0.2
"""The share of its edits after which a process should not grow any more."""

SIDE, LARGE_SIDE = 64, 1200
"""Pixels. The larger picture does not fit into a request and is uploaded."""

DELIVERED, WRONG = "delivered", "wrong picture"

UNNAMED = "unnamed "
"""Before the class of an error that no artist should meet."""


@dataclass(frozen=True)
class Ended:
    """An edit is over. ``errors`` are those of the tries before, by class; ``outcome`` is
    ``DELIVERED`` or ``WRONG``, or else what the last error said."""

    number: int
    errors: list[str]
    outcome: str


@dataclass(frozen=True)
class Footprint:
    """What the process holds after ``done`` edits: bytes of memory, threads, files, sockets."""

    done: int
    rss: int
    threads: int
    files: int
    sockets: int


def look(number: int) -> int:
    """Equal for edits that differ in their seed alone: every tenth is like the one before it."""
    return number - (number % 10 == 9)


def prompt(number: int) -> str:
    return f"look {look(number)}"


def is_large(number: int) -> bool:
    return look(number) % 50 == 25


def picture(number: int) -> Pixels:
    """The reference of an edit, (H, W, 3): noise, no two alike."""
    side = LARGE_SIDE if is_large(number) else SIDE
    return np.random.default_rng(look(number)).integers(0, 256, (side, side, 3), dtype=np.uint8)


def editor(folder: Path) -> Callable[[int], Ended]:
    """Carries out an edit by its number, whose seed it is, until it is delivered or given up."""
    import torch

    from firered_edit.pipeline.errors import FireRedError
    from firered_edit.pipeline.fal.engine import FalEngine, FalOptions
    from firered_edit.pipeline.geometry import MatchImage
    from firered_edit.pipeline.host import PlainHost
    from firered_edit.pipeline.images import Reference, to_tensor
    from firered_edit.pipeline.request import EditRequest

    def once(number: int) -> str:
        reference = Reference(picture(number))
        request = EditRequest(
            prompt=prompt(number),
            references=(reference,),
            size=MatchImage(),
            num_images=1,
            seed=number,
            num_inference_steps=4,
            guidance_scale=4.0,
            negative_prompt="",
            acceleration="regular",
            working_megapixels=0.0,
        )
        # A host of its own is a run of its own.
        result = FalEngine(PlainHost(data_folder=folder)).edit(request, FalOptions())
        return DELIVERED if torch.equal(result.images[0], to_tensor(reference.pixels)) else WRONG

    def edit(number: int) -> Ended:
        errors: list[str] = []
        outcome = ""
        for _ in range(1 + QUEUED_AGAIN):
            try:
                return Ended(number, errors, once(number))
            except FireRedError as error:
                outcome = str(error)
                errors.append(type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is to be told of
                return Ended(number, [*errors, UNNAMED + type(error).__name__], repr(error))
        return Ended(number, errors, outcome)

    return edit


def footprint(done: int) -> Footprint:
    from firered_edit.pipeline.fal.uploads.encoded import encoded

    # What is kept to be used again is bounded by itself, and no growth.
    encoded.clear()
    gc.collect()
    process = psutil.Process()
    return Footprint(
        done=done,
        rss=process.memory_info().rss,
        threads=active_count(),
        files=len(process.open_files()),
        sockets=len(process.net_connections()),
    )


def _tell(word: Ended | Footprint) -> None:
    line = json.dumps([type(word).__name__, asdict(word)]) + "\n"
    # In one piece: a process that is killed leaves no half of a line behind.
    os.write(sys.stdout.fileno(), line.encode())


def _settle() -> None:
    """Wait for threads that are about to end, such as readers of streams."""
    deadline = time.monotonic() + 5.0
    while active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def main() -> None:
    folder = Path(sys.argv[1])
    numbers: list[int] = json.loads(sys.stdin.readline())
    load_pack()
    edit = editor(folder)
    from firered_edit.pipeline.fal.collecting import collector_in

    _tell(footprint(0))
    collector_in(folder).follow_all()
    warm = max(1, round(WARM * len(numbers)))
    for first, last in ((0, warm), (warm, len(numbers))):
        with ThreadPoolExecutor(THREADS) as pool:
            underway = [pool.submit(edit, number) for number in numbers[first:last]]
            for ended in as_completed(underway):
                _tell(ended.result())
        _settle()
        _tell(footprint(last))


if __name__ == "__main__":
    main()
