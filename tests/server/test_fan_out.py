"""Many edits on fal from one press of Run: ten nodes, and lists through one node."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doubles.fal_server import FalServer, Job
from doubles.fal_server.pictures import first_reference
from support.comfyui import ComfyUI, Run, RunFailed, wait_until
from support.workflows import Workflow

SIDE = 64
"""Pixels of a list's elements; ComfyUI cuts no smaller tiles."""

WINDOW = 16
"""How many of a run are at fal at once, where nothing else is set."""

CANCELLED_S = 0.25
"""From the press of Cancel until fal was told of every job."""

Color = tuple[int, int, int]

prompts = (f"fan out {number}" for number in count())
"""No two tests edit the same picture in the same way, or the later one would be served."""


def _color(number: int) -> Color:
    return 40 + number, 200 - number, number % 7 * 30


@pytest.fixture
def listed(comfyui: ComfyUI, remote: Workflow, tmp_path: Path) -> Callable[[int], Workflow]:
    """The shipped workflow with a list of so many pictures, each of a colour of its own.

    A strip of coloured squares is cut into tiles, which ComfyUI hands on as a list.
    """

    def workflow(length: int) -> Workflow:
        squares = [np.full((SIDE, SIDE, 3), _color(number), np.uint8) for number in range(length)]
        file = tmp_path / f"strip_{length}.png"
        Image.fromarray(np.concatenate(squares, axis=1)).save(file)
        remote.set("LoadImage", image=comfyui.upload(file))
        tile = {"tile_width": SIDE, "tile_height": SIDE, "overlap": 0}
        image = [remote.node("LoadImage"), 0]
        tiles = remote.add("SplitImageToTileList", image=image, **tile)
        inputs = {"images.image_1": [tiles, 0], "prompt": next(prompts), "max_cost": 100.0}
        remote.set("FireRedEditFal", **inputs)
        return remote

    return workflow


def _open_jobs(fal: FalServer) -> list[Job]:
    return [job for job in list(fal.jobs) if job.state in ("IN_QUEUE", "IN_PROGRESS")]


@contextmanager
def _most_at_once(fal: FalServer) -> Iterator[list[int]]:
    """How many jobs were at fal at once at the most; the one number is there at the end."""
    over = threading.Event()
    found = [0]

    def watch() -> None:
        while not over.wait(0.005):
            found[0] = max(found[0], len(_open_jobs(fal)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _saved_colors(comfyui: ComfyUI, workflow: Workflow, run: Run) -> list[Color]:
    """The colour of each saved picture, in ComfyUI's order."""
    colors = []
    for image in run.images(workflow.node("SaveImage")):
        with Image.open(comfyui.output_file(image)) as opened:
            assert opened.size == (SIDE, SIDE)
            ((_, color),) = opened.getcolors()
            colors.append(color)
    return colors


def _add_edit(workflow: Workflow, **changes: Any) -> str:
    """Another edit on fal like the first but for ``changes``, and saved; its id."""
    own = workflow[workflow.node("FireRedEditFal")]["inputs"]
    edit = workflow.add("FireRedEditFal", **{**own, **changes})
    workflow.add("SaveImage", images=[edit, 0], filename_prefix="firered_fal")
    return edit


def test_ten_nodes_are_at_fal_at_once(comfyui: ComfyUI, remote: Workflow, fal: FalServer) -> None:
    fal.run_seconds = 1.0
    remote.set("FireRedEditFal", prompt=next(prompts))
    for _ in range(9):
        _add_edit(remote, prompt=next(prompts))
    began = time.monotonic()
    with _most_at_once(fal) as most:
        run = comfyui.run(remote)
    seconds = time.monotonic() - began
    sys.stdout.write(f"ten nodes of {fal.run_seconds} s each: {seconds:.1f} s\n")
    saves = [key for key, node in remote.items() if node["class_type"] == "SaveImage"]
    assert [len(run.images(save)) for save in saves] == [1] * 10
    assert most == [10]
    assert seconds < 10 * fal.run_seconds
    assert (fal.count("submit"), fal.billed) == (10, 10)


def test_a_list_of_a_hundred_keeps_its_order_and_the_window(
    comfyui: ComfyUI, listed: Callable[[int], Workflow], fal: FalServer
) -> None:
    fal.run_seconds = 0.3
    workflow = listed(100)
    began = time.monotonic()
    with _most_at_once(fal) as most:
        run = comfyui.run(workflow)
    sys.stdout.write(f"a list of 100: {time.monotonic() - began:.1f} s\n")
    assert _saved_colors(comfyui, workflow, run) == [_color(number) for number in range(100)]
    assert most == [WINDOW]
    assert (fal.count("submit"), fal.billed) == (100, 100)


def test_of_a_list_only_the_element_that_failed_is_sent_again(
    comfyui: ComfyUI, listed: Callable[[int], Workflow], fal: FalServer
) -> None:
    failing = [_color(7)]

    def runner(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
        if (color := references[0].getpixel((0, 0))) in failing:
            failing.remove(color)
            raise RuntimeError("out of memory")
        return first_reference(arguments, references)

    fal.runner = runner
    workflow = listed(12)
    with pytest.raises(RunFailed, match="runner_server_error"):
        comfyui.run(workflow)
    assert (fal.count("submit"), fal.billed) == (12, 11)
    run = comfyui.run(workflow)
    assert _saved_colors(comfyui, workflow, run) == [_color(number) for number in range(12)]
    assert (fal.count("submit"), fal.billed) == (13, 12)


def test_cancel_takes_back_every_job_of_a_list_and_sends_no_other(
    comfyui: ComfyUI, listed: Callable[[int], Workflow], fal: FalServer
) -> None:
    workflow = listed(40)
    prompt_id = comfyui.start(workflow)
    wait_until(lambda: fal.billed >= 5)
    fal.queue_seconds = 60.0
    wait_until(lambda: len(_open_jobs(fal)) == WINDOW)
    taken_back = _open_jobs(fal)
    pressed = time.monotonic()
    comfyui.post("/interrupt", {"prompt_id": prompt_id})
    with pytest.raises(RunFailed, match="interrupted"):
        comfyui.finish(prompt_id, timeout=20)
    told = [request for request in fal.requests if request.phase == "cancel"]
    late = max(request.at for request in told) - pressed
    sys.stdout.write(f"the last of {len(told)} jobs was cancelled after {1000 * late:.0f} ms\n")
    ids = [request.path.split("/")[-2] for request in told]
    assert sorted(ids) == sorted(job.request_id for job in taken_back)
    assert late < CANCELLED_S
    fal.queue_seconds = 0.0
    run = comfyui.run(workflow)
    assert _saved_colors(comfyui, workflow, run) == [_color(number) for number in range(40)]
    assert fal.count("submit") - WINDOW == fal.billed == 40
    assert all(job.state == "REMOVED" for job in taken_back)


def test_what_others_paid_for_outlives_a_failing_sibling(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    failing = next(prompts)

    def runner(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
        if arguments["prompt"] == failing:
            wait_until(lambda: fal.count("submit") == 5)
            raise RuntimeError("out of memory")
        time.sleep(1.0)
        return first_reference(arguments, references)

    fal.runner = runner
    remote.set("FireRedEditFal", prompt=next(prompts))
    for _ in range(3):
        _add_edit(remote, prompt=next(prompts))
    alone = Workflow(remote)
    _add_edit(remote, prompt=failing)
    with pytest.raises(RunFailed, match="runner_server_error"):
        comfyui.run(remote)
    assert fal.billed == 0
    wait_until(lambda: fal.billed == 4)
    run = comfyui.run(alone)
    assert sum("images" in output for output in run.outputs.values()) == 4
    assert (fal.count("submit"), fal.count("cancel"), fal.billed) == (5, 0, 4)
