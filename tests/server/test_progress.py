"""What the nodes say while they run, and what is still there when they do not."""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from doubles.fal_server import FalServer
from doubles.fal_server.pictures import first_reference
from support.comfyui import ComfyUI, RunFailed, wait_until
from support.events import Events, listening
from support.workflows import Workflow

Picture = Callable[[int, int], str]

SIDE = 64
"""Pixels of a list's elements; ComfyUI cuts no smaller tiles."""

MOST_A_SECOND = 4
"""Texts of one node."""

QUIET_S = 1.5
"""After a run, long enough for a clock that went on to be heard."""

EVENT = "firered.error"

seeds = itertools.count(9_000)


def _make_list(workflow: Workflow, node: str, picture: Picture, length: int) -> None:
    """Feed ``node`` with a list of so many pictures."""
    workflow.set("LoadImage", image=picture(SIDE * length, SIDE))
    tile = {"tile_width": SIDE, "tile_height": SIDE, "overlap": 0}
    image = [workflow.node("LoadImage"), 0]
    tiles = workflow.add("SplitImageToTileList", image=image, **tile)
    workflow.set(node, **{"images.image_1": [tiles, 0], "seed": next(seeds)})


def _failures(events: Events) -> list[dict[str, Any]]:
    return [message["data"] for message in events.messages if message["type"] == EVENT]


def _is_calm(events: Events, node: str) -> bool:
    """Whether no more was sent about ``node`` than a page is to get.

    Over all of the time: a busy server hands on late what it was given in time.
    """
    times = [told.at for told in events.told if told.node == node]
    seconds = times[-1] - times[0]
    sys.stdout.write(f"{len(times)} texts in {seconds:.1f} s\n")
    return len(times) <= MOST_A_SECOND * (seconds + 1)


def _clocks(texts: list[str], beginning: str) -> list[str]:
    """The clocks that stood beside a phase, in the order they were shown."""
    found = [re.search(r" · (\d+:\d\d)", text) for text in texts if text.startswith(beginning)]
    return [match[1] for match in found if match]


def _stays(events: Events) -> None:
    """Nothing more is said."""
    before = len(events.texts)
    time.sleep(QUIET_S)
    assert events.texts[before:] == []


# One edit ---------------------------------------------------------------------------------------


def test_the_steps_of_a_local_edit_have_a_clock_and_an_end(
    comfyui: ComfyUI, local: Workflow
) -> None:
    local.set("FireRedEdit", num_inference_steps=50, working_megapixels=0.1, seed=next(seeds))
    node = local.node("FireRedEdit")
    with listening(comfyui) as events:
        comfyui.run(local)
        wait_until(lambda: "canvas" in events.last_text)
        _stays(events)
    steps = [text for text in events.of_node(node) if text.startswith("step ")]
    assert any(re.fullmatch(r"step \d+/50 · \d:\d\d of about \d:\d\d", text) for text in steps)
    assert events.of_node(node)[-1].startswith("@image1 120x90")
    assert events.progress(node)[-1] == (50, 50)
    assert _is_calm(events, node)


def test_an_edit_on_fal_has_a_clock_in_the_queue_and_at_work_and_then_knows_how_long_it_takes(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds, fal.run_seconds = 3.0, 4.0
    node = remote.node("FireRedEditFal")
    # No other test asks for these two together: what the server has learnt of others, which take
    # no time, would count too.
    remote.set("FireRedEditFal", acceleration="high", guidance_scale=1.0)
    with listening(comfyui) as events:
        for _ in range(2):
            remote.set("FireRedEditFal", seed=next(seeds))
            comfyui.run(remote)
            wait_until(lambda: "cost" in events.last_text)
        _stays(events)
    texts = events.of_node(node)
    assert set(_clocks(texts, "queue position")) >= {"0:01", "0:02"}
    assert any(re.search(r" · 0:0\d of about 0:0\d$", text) for text in texts)
    assert "cost $0.0325" in texts[-1]
    assert " · 0:" not in texts[-1]
    assert _is_calm(events, node)


def test_what_did_not_run_again_says_nothing_new(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    comfyui.run(remote)
    with listening(comfyui) as events:
        comfyui.run(remote)
        _stays(events)
    assert events.texts == []


# Lists ------------------------------------------------------------------------------------------


def test_a_list_on_fal_is_one_line_and_one_bar_that_only_grows(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer, picture: Picture
) -> None:
    fal.run_seconds = 2.0
    _make_list(remote, "FireRedEditFal", picture, 20)
    node = remote.node("FireRedEditFal")
    with listening(comfyui) as events:
        comfyui.run(remote)
        wait_until(lambda: "20 edits: 20 done" in events.last_text)
        _stays(events)
    texts = events.of_node(node)
    assert any(
        re.match(r"20 edits: (\d+ done, )?16 at fal, 4 waiting · 0:0[12]", text) for text in texts
    )
    assert re.match(r"20 edits: 20 done · 0:0\d  \n", texts[-1])
    assert "20 × cost $0.0325" in texts[-1]
    bar = [value / total for value, total in events.progress(node)][1:]
    assert bar == sorted(bar)
    assert bar[-1] == 1.0
    assert _is_calm(events, node)


def test_a_local_list_numbers_its_edits(
    comfyui: ComfyUI, local: Workflow, picture: Picture
) -> None:
    _make_list(local, "FireRedEdit", picture, 3)
    # Longer than a second: a shorter one may be over before its node has room for a text.
    local.set("FireRedEdit", num_inference_steps=50, num_images=3)
    node = local.node("FireRedEdit")
    with listening(comfyui) as events:
        comfyui.run(local)
        wait_until(lambda: "canvas" in events.last_text)
    texts = events.of_node(node)
    assert not texts[0].startswith("edit ")
    assert [text for text in texts if text.startswith("edit 3 · ")]
    assert texts[-1].startswith(f"@image1 {SIDE}x{SIDE}")


def test_a_list_that_fails_in_part_ends_with_the_error_though_others_finish_later(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer, picture: Picture
) -> None:
    jobs = itertools.count()

    def runner(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
        if next(jobs) == 0:
            raise RuntimeError("out of memory")
        time.sleep(1.0)
        return first_reference(arguments, references)

    fal.runner = runner
    _make_list(remote, "FireRedEditFal", picture, 4)
    node = remote.node("FireRedEditFal")
    with listening(comfyui) as events:
        with pytest.raises(RunFailed, match="runner_server_error"):
            comfyui.run(remote)
        wait_until(lambda: "4 edits: 3 done, 1 failed · " in events.last_text)
        _stays(events)
    assert "runner_server_error" in events.of_node(node)[-1].splitlines()[0]
    assert len(_failures(events)) == 1


# Cancel -----------------------------------------------------------------------------------------


def _cancel(comfyui: ComfyUI, prompt_id: str) -> None:
    comfyui.post("/interrupt", {"prompt_id": prompt_id}).raise_for_status()
    with pytest.raises(RunFailed, match="interrupted"):
        comfyui.finish(prompt_id, timeout=20)


def _assert_cancelled(comfyui: ComfyUI, workflow: Workflow, begins: str, ends: str) -> None:
    """Cancelled in the phase that ``begins`` so, the last word on it is ``ends``."""
    with listening(comfyui) as events:
        prompt_id = comfyui.start(workflow)
        wait_until(lambda: any(text.startswith(begins) for text in events.texts))
        _cancel(comfyui, prompt_id)
        wait_until(lambda: events.last_text == ends)
        _stays(events)
    assert _failures(events) == []


def test_a_cancelled_local_edit_says_so_and_shows_no_step(
    comfyui: ComfyUI, local: Workflow
) -> None:
    local.set("FireRedEdit", num_inference_steps=50, num_images=4, working_megapixels=0.1)
    local.set("FireRedEdit", seed=next(seeds))
    _assert_cancelled(comfyui, local, "step ", "cancelled")


def test_a_cancelled_edit_on_fal_says_what_it_costs(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds = 60.0
    _assert_cancelled(comfyui, remote, "queue position", "cancelled while queued: not billed")


def test_a_cancelled_list_on_fal_says_what_became_of_its_edits(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer, picture: Picture
) -> None:
    fal.queue_seconds = 60.0
    _make_list(remote, "FireRedEditFal", picture, 6)
    with listening(comfyui) as events:
        prompt_id = comfyui.start(remote)
        wait_until(lambda: "6 edits: 6 at fal" in events.last_text)
        _cancel(comfyui, prompt_id)
        wait_until(lambda: "6 edits: 6 cancelled" in events.last_text)
        wait_until(lambda: "6 × cancelled while queued: not billed" in events.last_text)
        _stays(events)


# Failures ---------------------------------------------------------------------------------------


def test_a_failure_is_told_to_the_page_that_queued_it_with_a_cure(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    remote.set("FireRedEditFal", prompt="wear the hat of @image3")
    other_page = replace(comfyui, client_id="another-page")
    with listening(comfyui) as events, listening(other_page) as others:
        with pytest.raises(RunFailed) as caught:
            comfyui.run(remote)
        wait_until(lambda: bool(_failures(events)))
        _stays(events)
    (failure,) = _failures(events)
    assert f"{failure['problem']} {failure['remedy']}" == caught.value.message.strip()
    assert events.last_text == caught.value.message.strip()
    assert failure["node_id"] == remote.node("FireRedEditFal")
    assert failure["cures"] == ["node"]
    assert (_failures(others), others.texts) == ([], [])


def test_a_refused_account_leads_to_where_it_is_paid_and_the_key_is_not_told(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.locked = True
    with listening(comfyui) as events:
        with pytest.raises(RunFailed, match="fal refuses this account"):
            comfyui.run(remote)
        wait_until(lambda: bool(_failures(events)))
    (failure,) = _failures(events)
    assert failure["cures"] == ["billing", "settings"]
    assert fal.key not in str(events.messages) + str(events.texts)


def test_an_edit_whose_sibling_failed_does_not_pretend_to_go_on(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.run_seconds = 1.5
    node = remote.node("FireRedEditFal")
    own = remote[node]["inputs"]
    failing = remote.add("FireRedEditFal", **{**own, "prompt": "wear the hat of @image9"})
    remote.add("SaveImage", images=[failing, 0], filename_prefix="firered_fal")
    with listening(comfyui) as events:
        with pytest.raises(RunFailed, match="names @image9"):
            comfyui.run(remote)
        wait_until(lambda: fal.billed == 1)
        _stays(events)
    assert events.of_node(node)[-1].startswith("another node failed; what was sent to fal goes on")
    assert "names @image9" in events.of_node(failing)[-1]
    with listening(comfyui) as again:
        del remote[failing]
        remote.pop(max(remote, key=int))
        comfyui.run(remote)
        wait_until(lambda: "cost" in again.last_text)
    assert fal.billed == 1
