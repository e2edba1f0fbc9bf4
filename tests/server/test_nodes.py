"""Both edit nodes inside a real ComfyUI."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from doubles.fal_server import FalServer, Fault
from support.comfyui import ComfyUI, RunFailed, wait_until
from support.events import listening
from support.workflows import Workflow, receipt, saved

Picture = Callable[[int, int], str]


def _add_failing_sibling(remote: Workflow) -> None:
    """Another edit on fal whose prompt names a picture that is not there."""
    own = remote[remote.node("FireRedEditFal")]["inputs"]
    failing = remote.add("FireRedEditFal", **{**own, "prompt": "wear @image9"})
    remote.add("SaveImage", images=[failing, 0], filename_prefix="never")


def _edit_node(workflow: Workflow) -> str:
    classes = {node["class_type"] for node in workflow.values()}
    return "FireRedEdit" if "FireRedEdit" in classes else "FireRedEditFal"


@pytest.fixture(params=["local", "remote"])
def workflow(request: pytest.FixtureRequest, fal: FalServer) -> Workflow:
    """Either shipped workflow; what holds for one node holds for the other."""
    chosen: Workflow = request.getfixturevalue(request.param)
    return chosen


def test_two_references_of_different_sizes_give_one_picture(
    comfyui: ComfyUI, workflow: Workflow, picture: Picture
) -> None:
    second = workflow.add("LoadImage", image=picture(50, 80))
    workflow.set(_edit_node(workflow), **{"images.image_2": [second, 0]})
    run = comfyui.run(workflow)
    assert len(run.images(workflow.node("SaveImage"))) == 1
    assert saved(comfyui, workflow, run).size == (120, 90)
    assert receipt(workflow, run)["references"] == ["120x90", "50x80"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"size": "match image", "size.index": 2}, (50, 80)),
        ({"size": "custom", "size.width": 77, "size.height": 131, "size.index": None}, (77, 131)),
        ({"size": "megapixels", "size.megapixels": 0.1, "size.index": None}, (384, 288)),
    ],
)
def test_the_saved_picture_has_the_size_asked_for(
    comfyui: ComfyUI,
    workflow: Workflow,
    picture: Picture,
    size: dict[str, Any],
    expected: tuple[int, int],
) -> None:
    second = workflow.add("LoadImage", image=picture(50, 80))
    inputs = {"images.image_2": [second, 0], "working_megapixels": 0.05}
    workflow.set(_edit_node(workflow), **inputs, **size)
    assert saved(comfyui, workflow, comfyui.run(workflow)).size == expected


def test_a_gap_between_slots_is_closed_and_a_batch_counts(
    comfyui: ComfyUI, workflow: Workflow, picture: Picture
) -> None:
    one, other = (workflow.add("LoadImage", image=picture(64, size)) for size in (48, 48))
    batch = workflow.add("ImageBatch", image1=[one, 0], image2=[other, 0])
    workflow.set(_edit_node(workflow), **{"images.image_5": [batch, 0]})
    references = receipt(workflow, comfyui.run(workflow))["references"]
    assert references == ["120x90", "64x48", "64x48"]


def test_a_batch_comes_out_as_asked(comfyui: ComfyUI, workflow: Workflow) -> None:
    workflow.set(_edit_node(workflow), num_images=2)
    assert len(comfyui.run(workflow).images(workflow.node("SaveImage"))) == 2


def test_the_seed_is_echoed(comfyui: ComfyUI, workflow: Workflow) -> None:
    workflow.set("PreviewAny", source=[workflow.node(_edit_node(workflow)), 1])
    workflow.set(_edit_node(workflow), seed=4_000_000_001)
    assert comfyui.run(workflow).texts(workflow.node("PreviewAny")) == ["4000000001"]


BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"prompt": " "}, "The prompt is empty"),
    ({"images.image_1": None}, "Required input is missing"),
    ({"num_inference_steps": 1}, "smaller than min"),
    ({"num_inference_steps": 51}, "bigger than max"),
    ({"guidance_scale": 0.0}, "smaller than min"),
    ({"size": "preset", "size.preset": "huge"}, "not in list"),
    ({"size": "huge"}, "Choose match image, preset, custom or megapixels"),
    ({"prompt": "wear the hat of @image3"}, "names @image3"),
    ({"size.index": 2}, "size index"),
    ({"images.image_11": ["1", 0]}, "no input images.image_11"),
]


@pytest.mark.parametrize(("inputs", "words"), BAD_INPUT)
def test_bad_input_is_a_clear_error_before_anything_is_sent(
    comfyui: ComfyUI, workflow: Workflow, fal: FalServer, inputs: dict[str, Any], words: str
) -> None:
    workflow.set(_edit_node(workflow), **inputs)
    with pytest.raises(RunFailed) as caught:
        comfyui.run(workflow)
    assert words in caught.value.message
    assert not fal.requests


def test_the_words_of_an_error_are_shown_on_the_node(comfyui: ComfyUI, workflow: Workflow) -> None:
    workflow.set(_edit_node(workflow), prompt="wear the hat of @image3")
    with listening(comfyui) as events:
        with pytest.raises(RunFailed):
            comfyui.run(workflow)
        wait_until(lambda: "names @image3" in events.last_text)


def test_an_empty_prompt_is_marked_once(comfyui: ComfyUI, workflow: Workflow) -> None:
    workflow.set(_edit_node(workflow), prompt="")
    answer = comfyui.post("/prompt", {"prompt": workflow}).json()
    errors = answer["node_errors"][workflow.node(_edit_node(workflow))]["errors"]
    assert [error["extra_info"]["input_name"] for error in errors] == ["prompt"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"source.folder": "no-such-model"}, "not in list"),
        ({"precision": "int4"}, "not in list"),
    ],
)
def test_a_model_that_is_not_there_is_an_error(
    comfyui: ComfyUI, local: Workflow, source: dict[str, Any], words: str
) -> None:
    local.set("FireRedLoadModel", **source)
    with pytest.raises(RunFailed) as caught:
        comfyui.run(local)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("acceleration", "words"),
    [("regular", "both branches in one pass"), ("high", "0 of 8 steps left out")],
)
def test_an_accelerated_edit_says_so_in_its_receipt(
    comfyui: ComfyUI, local: Workflow, acceleration: str, words: str
) -> None:
    local.set("FireRedEdit", acceleration=acceleration, num_inference_steps=8)
    details = receipt(local, comfyui.run(local))["details"]
    assert words in str(details["acceleration"])


def _cancel(comfyui: ComfyUI, prompt_id: str) -> str:
    """Interrupt a run that has begun; the state ComfyUI then gives it."""
    comfyui.post("/interrupt", {"prompt_id": prompt_id})
    with pytest.raises(RunFailed, match="interrupted"):
        comfyui.finish(prompt_id, timeout=20)
    return str(comfyui.job(prompt_id)["status"])


def test_cancel_stops_a_local_edit_and_the_next_run_is_unaffected(
    comfyui: ComfyUI, local: Workflow
) -> None:
    before = saved(comfyui, local, comfyui.run(local)).tobytes()
    own = dict(local[local.node("FireRedEdit")]["inputs"])
    local.set("FireRedEdit", num_inference_steps=50, num_images=4, working_megapixels=0.1)
    with listening(comfyui) as events:
        prompt_id = comfyui.start(local)
        wait_until(lambda: any(text.startswith("step ") for text in events.texts))
        assert _cancel(comfyui, prompt_id) == "cancelled"
    local.set("FireRedEdit", **own)
    comfyui.forget()
    assert saved(comfyui, local, comfyui.run(local)).tobytes() == before


def test_a_local_edit_reports_its_phases_and_steps(
    comfyui: ComfyUI, local: Workflow, picture: Picture
) -> None:
    local.set("LoadImage", image=picture(118, 90))
    local.set("FireRedEdit", seed=51)
    with listening(comfyui) as events:
        comfyui.run(local)
        wait_until(lambda: "canvas" in events.last_text)
    node = local.node("FireRedEdit")
    # Of a tiny edit that is over at once, no more than a page is sent in a second.
    phases = ["reading the prompt", "reading the pictures", "preparing the steps"]
    assert [text.partition(" · ")[0] for text in events.of_node(node)][:3] == phases
    assert "@image1 118x90" in events.last_text
    assert events.progress(node)[-1] == (2, 2)


@pytest.mark.parametrize(("method", "count"), [("none", 0), ("latent2rgb", 3)])
def test_the_picture_in_the_making_is_shown_to_those_who_want_it(
    comfyui: ComfyUI, local: Workflow, method: str, count: int
) -> None:
    local.set("FireRedEdit", seed=70 + count, num_inference_steps=3)
    with listening(comfyui) as events:
        comfyui.finish(comfyui.start(local, preview_method=method))
        wait_until(lambda: "canvas" in events.last_text)
    assert len(events.previews) == count
    for preview in events.previews:
        with Image.open(io.BytesIO(preview)) as picture:
            assert picture.width > picture.height


def test_a_remote_edit_reports_its_place_in_the_queue(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds, fal.run_seconds = 1.5, 1.0
    remote.set("FireRedEditFal", seed=52)
    with listening(comfyui) as events:
        comfyui.run(remote)
        wait_until(lambda: "cost" in events.last_text)
    assert any(text.startswith("queue position") for text in events.texts)
    assert any(text.startswith("step ") for text in events.texts)
    assert "cost $0.0325" in events.last_text


def test_cancel_tells_fal_and_shows_as_cancelled(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds = 60.0
    prompt_id = comfyui.start(remote)
    wait_until(lambda: fal.count("submit") == 1)
    assert _cancel(comfyui, prompt_id) == "cancelled"
    assert fal.count("cancel") == 1
    assert fal.billed == 0


def test_a_failing_sibling_leaves_the_remote_job_running_and_the_log_clean(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.run_seconds = 1.0
    _add_failing_sibling(remote)
    with pytest.raises(RunFailed, match="names @image9"):
        comfyui.run(remote)
    wait_until(lambda: fal.billed == 1)
    assert fal.count("cancel") == 0
    assert "exception calling callback" not in comfyui.log.read_text(errors="replace")


def test_without_a_change_nothing_runs_again(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    comfyui.run(remote)
    comfyui.run(remote)
    assert fal.count("submit") == fal.billed == 1


def test_the_cost_limit_stops_an_edit_before_it_is_sent(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    remote.set("FireRedEditFal", max_cost=0.03, seed=3)
    with pytest.raises(RunFailed, match="max_cost"):
        comfyui.run(remote)
    assert not fal.requests


def test_the_receipt_names_request_and_cost(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    remote.set("FireRedEditFal", seed=4)
    details = receipt(remote, comfyui.run(remote))["details"]
    assert details["request_id"] == fal.jobs[0].request_id
    assert details["cost_usd"] == pytest.approx(fal.billed_usd)


def test_a_flagged_picture_is_an_error_not_a_black_picture(
    comfyui: ComfyUI, remote: Workflow
) -> None:
    remote.set("FireRedEditFal", prompt="[nsfw]")
    with pytest.raises(RunFailed, match="safety checker"):
        comfyui.run(remote)


def test_a_failing_fal_is_an_error_in_words(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.fail("submit", Fault.answer(401, {"detail": "No user found for Key ID and Secret"}))
    remote.set("FireRedEditFal", seed=5)
    with pytest.raises(RunFailed, match="does not know this key"):
        comfyui.run(remote)


def test_the_key_is_nowhere_to_be_seen(comfyui: ComfyUI, remote: Workflow, fal: FalServer) -> None:
    remote.set("FireRedEditFal", seed=6)
    run = comfyui.run(remote)
    secret = fal.key.split(":")[1]
    picture_file = comfyui.output_file(run.images(remote.node("SaveImage"))[0]).read_bytes()
    history = json.dumps(comfyui.get(f"/history/{run.prompt_id}"))
    log = comfyui.log.read_text(errors="replace")
    settings = json.dumps(comfyui.get("/settings"))
    assert secret.encode() not in picture_file
    assert not any(secret in text for text in (history, log, settings))
    assert not any(request.authorized for request in fal.requests if request.phase == "get")


def test_cancel_reaches_fal_while_another_node_blocks_the_loop_and_clears_the_flag(
    comfyui: ComfyUI, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds = 60.0
    remote.set("FireRedEditFal", seed=60)
    remote.add("TestBlock", after=[remote.node("LoadImage"), 0], seconds=15.0)
    with listening(comfyui) as events:
        prompt_id = comfyui.start(remote)
        wait_until(lambda: fal.count("stream") == 1)
        pressed = time.monotonic()
        assert _cancel(comfyui, prompt_id) == "cancelled"
        wait_until(lambda: fal.count("cancel") == 1)
        wait_until(lambda: events.last_text == "cancelled while queued: not billed")
    (put,) = (request for request in fal.requests if request.phase == "cancel")
    assert put.at - pressed < 0.5


def test_a_job_left_running_does_not_take_the_next_runs_cancel_as_its_own(
    comfyui: ComfyUI, local: Workflow, remote: Workflow, fal: FalServer
) -> None:
    fal.queue_seconds = 3.0
    remote.set("FireRedEditFal", seed=61)
    _add_failing_sibling(remote)
    with pytest.raises(RunFailed, match="names @image9"):
        comfyui.run(remote)
    local.set("FireRedEdit", num_inference_steps=50, num_images=4, working_megapixels=0.1, seed=62)
    with listening(comfyui) as events:
        prompt_id = comfyui.start(local)
        wait_until(lambda: any(text.startswith("step ") for text in events.texts))
        assert _cancel(comfyui, prompt_id) == "cancelled"
    wait_until(lambda: fal.billed == 1)
    assert fal.count("cancel") == 0
