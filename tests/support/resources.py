"""What a ComfyUI holds after many edits and cancels, looked at from outside its process."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from support.comfyui import ComfyUI, RunFailed, wait_until
from support.orphans import data_folder
from support.server_fixtures import MODEL_FOLDER
from support.workflows import Workflow, saved, shipped

MEBIBYTE = 1024 * 1024

MAX_GROWTH_BYTES = 48 * MEBIBYTE
"""That memory may grow by once a process is warm: allocators keep some of what was freed."""

WARM = 6
"""Edits after which a process should not grow any more."""

STEADY_S = 30.0
"""How long what ends by itself may take: connections that are kept, threads that wait for more."""

RESTING = frozenset({"done", "failed", "cancelled"})
"""States in which nothing is left to do about a job."""

ENGINES = ("local", "fal")


@dataclass(frozen=True)
class Footprint:
    """What a process holds: bytes of memory, threads, connections, open files, temporary files."""

    rss: int
    threads: int
    connections: int
    files: tuple[str, ...]
    temporary: int

    def __str__(self) -> str:
        return (
            f"{self.rss / MEBIBYTE:.0f} MiB, {self.threads} threads, {self.connections} "
            f"connections, {len(self.files)} files, {self.temporary} temporary files"
        )


def footprint(comfyui: ComfyUI) -> Footprint:
    """As of now, after ComfyUI has collected its garbage."""
    comfyui.forget()
    wait_until(lambda: not comfyui.get("/prompt")["exec_info"]["queue_remaining"])
    time.sleep(1.0)
    assert comfyui.process is not None
    process = psutil.Process(comfyui.process.pid)
    with process.oneshot():
        # What is written to grows, and what is read is a model's or a library's.
        files = tuple(sorted(Path(file.path).name for file in process.open_files()))
        connections = [each for each in process.net_connections("inet") if each.raddr]
        return Footprint(
            process.memory_info().rss,
            process.num_threads(),
            len(connections),
            files,
            _count(comfyui.base / "temp") + _count(data_folder(comfyui.base), "*.part*"),
        )


def _count(folder: Path, pattern: str = "*") -> int:
    return sum(1 for _ in folder.rglob(pattern))


def left_behind(before: Footprint, after: Footprint) -> list[str]:
    """What a process has kept that it should have let go, in words."""
    found = []
    if after.rss - before.rss > MAX_GROWTH_BYTES:
        found.append(f"memory grew by {(after.rss - before.rss) / MEBIBYTE:.0f} MiB")
    if after.threads > before.threads:
        found.append(f"{after.threads - before.threads} more threads")
    if after.connections > before.connections:
        found.append(f"{after.connections - before.connections} more connections")
    if more := Counter(after.files) - Counter(before.files):
        found.append(f"open files: {dict(more)}")
    if after.temporary > before.temporary:
        found.append(f"{after.temporary - before.temporary} more temporary files")
    return found


def settled(comfyui: ComfyUI, before: Footprint) -> Footprint:
    """What is held once what ends by itself has ended."""
    deadline = time.monotonic() + STEADY_S
    after = footprint(comfyui)
    while left_behind(before, after) and time.monotonic() < deadline:
        time.sleep(1.0)
        after = footprint(comfyui)
    return after


def workflow_of(engine: str, prompt: str, seed: int) -> Workflow:
    """A small edit of ComfyUI's example picture by one of ``ENGINES``."""
    workflow = shipped(f"firered_edit_{engine}")
    if engine == "local":
        workflow.use_folder(MODEL_FOLDER)
        small = {"num_inference_steps": 2, "working_megapixels": 0.02}
        workflow.set("FireRedEdit", prompt=prompt, seed=seed, **small)
    else:
        workflow.set("FireRedEditFal", prompt=prompt, seed=seed)
    scaled = {"upscale_method": "area", "width": 96, "height": 64, "crop": "center"}
    image = workflow.add("ImageScale", image=[workflow.node("LoadImage"), 0], **scaled)
    name = {"local": "FireRedEdit", "fal": "FireRedEditFal"}[engine]
    workflow.set(name, **{"images.image_1": [image, 0]})
    return workflow


def edited(comfyui: ComfyUI, workflow: Workflow) -> Any:
    """The pixels of a run that finds nothing of the last one in ComfyUI's memory."""
    comfyui.forget()
    return np.asarray(saved(comfyui, workflow, comfyui.run(workflow)))


def many_edits(comfyui: ComfyUI, engine: str, name: str, count: int) -> list[Footprint]:
    """Carry out ``count`` edits by ``engine``; footprints when warm, halfway and at the end."""
    footprints = []
    for number in range(count):
        comfyui.run(workflow_of(engine, f"{name} {number}", number))
        if number in (WARM, (WARM + count) // 2):
            footprints.append(footprint(comfyui))
    return [*footprints, settled(comfyui, footprints[0])]


@dataclass(frozen=True)
class Storm:
    """What came of many edits that were cancelled: how often each ended how."""

    ends: Counter[str]


def cancel_storm(comfyui: ComfyUI, name: str, count: int, rng: random.Random) -> Storm:
    """Queue an edit and cancel it some moments later, ``count`` times, one after the other.

    Some are cancelled by their number while they wait, as the page's queue does it.
    """
    ends: Counter[str] = Counter()
    for number in range(count):
        engine = rng.choice(ENGINES)
        prompt_id = comfyui.start(workflow_of(engine, f"{name} {number}", number))
        time.sleep(rng.choice((0.0, 0.01, rng.random() * 0.2, rng.random())))
        if rng.random() < 0.3:
            comfyui.post("/queue", {"delete": [prompt_id]})
        comfyui.post("/interrupt", {"prompt_id": prompt_id} if rng.random() < 0.5 else {})
        ends[f"{engine} {_end(comfyui, prompt_id)}"] += 1
    return Storm(ends)


def _end(comfyui: ComfyUI, prompt_id: str) -> str:
    """How a run ended; one that was taken out of the queue leaves no history."""
    wait_until(lambda: not comfyui.get("/prompt")["exec_info"]["queue_remaining"], 60.0)
    if prompt_id not in comfyui.get(f"/history/{prompt_id}"):
        return "never began"
    try:
        comfyui.finish(prompt_id)
    except RunFailed as failed:
        return "cancelled" if failed.message == "interrupted" else f"failed: {failed.message}"
    return "finished"


def in_limbo(comfyui: ComfyUI) -> dict[str, str]:
    """Jobs of which nobody says what becomes of them, by prompt; waits for those that move."""
    found: dict[str, str] = {}

    def none_left() -> bool:
        found.clear()
        found.update(_unsettled(data_folder(comfyui.base)))
        return not found

    deadline = time.monotonic() + STEADY_S
    while not none_left() and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _unsettled(folder: Path) -> Iterator[tuple[str, str]]:
    file = folder / "journal.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        for prompt, state in db.execute("SELECT prompt, state FROM jobs"):
            if state not in RESTING:
                yield prompt, state


def told(say: Callable[[str], None], name: str, footprints: list[Footprint]) -> None:
    """Say what was held when warm, halfway and at the end."""
    for when, each in zip(("warm", "halfway", "end"), footprints, strict=True):
        say(f"{name}, {when}: {each}")
