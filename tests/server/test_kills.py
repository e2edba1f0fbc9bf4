"""ComfyUI is killed with edits at fal, and started again: each is paid once and can be had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from doubles.fal_server import FalServer, Job, routes
from doubles.fal_server.desk import Desk
from doubles.fal_server.replies import Call, Reply
from firered_edit.pipeline.images import to_tensor
from support.comfyui import ComfyUI, RunFailed, running_comfyui, wait_until
from support.fal_trials import signed, small_edit, wanted
from support.orphans import data_folder
from support.server_fixtures import FAL_KEY, furnish
from support.workflows import Workflow, shipped

SEED = 7
BLOCK_S = 120.0
"""Longer than ComfyUI lives; also how long fal's double waits for its cue."""

START_S = 60.0
"""How long the first edit of a process may take to leave: it imports what it needs."""

SENT, RUNNING, FINISHED = "sent and not answered", "running at fal", "finished, its run not over"
KINDS = (SENT, RUNNING, FINISHED)
SEQUELS = ("same seed", "changed seed", "left alone")
EDITS = [f"{kind}, {sequel}" for kind in KINDS for sequel in SEQUELS]
"""Their prompts: nothing else tells these edits apart."""


@dataclass
class Stage:
    """A fal whose jobs wait for their cue, each named by its prompt."""

    fal: FalServer = field(init=False)
    cues: dict[str, Event] = field(default_factory=lambda: {name: Event() for name in EDITS})
    killed: Event = field(default_factory=Event)

    def runner(self, arguments: dict[str, Any], pictures: list[Image.Image]) -> list[Image.Image]:
        self.cues[arguments["prompt"]].wait(BLOCK_S)
        return signed(arguments, pictures)

    def jobs(self, prompt: str) -> list[Job]:
        return [job for job in self.fal.jobs if job.arguments["prompt"] == prompt]

    @contextmanager
    def open(self) -> Iterator[FalServer]:
        genuine = Desk.answer

        def answer(desk: Desk, call: Call) -> Reply:
            reply = genuine(desk, call)
            if routes.find(call)[0] == "submit" and SENT.encode() in call.body:
                self.killed.wait(BLOCK_S)
            return reply

        patched = mock.patch.object(Desk, "answer", answer)
        with patched, FalServer(key=FAL_KEY, runner=self.runner) as self.fal:
            try:
                yield self.fal
            finally:
                for cue in [self.killed, *self.cues.values()]:
                    cue.set()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    staged = Stage()
    with staged.open():
        yield staged


@pytest.fixture(scope="module")
def restarted(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI on the folders of one that was killed while ``EDITS`` were on their way."""
    base = furnish(tmp_path_factory.mktemp("killed"))
    Image.fromarray(small_edit().references[0].pixels).save(base / "input" / "small.png")
    environ = stage.fal.environment
    with running_comfyui(base, environ=environ) as first:
        first.start(_all_at_once())
        _bring_on_their_way(stage, data_folder(base))
        first.kill()
    stage.killed.set()
    for prompt in _of(SENT):
        stage.cues[prompt].set()
    with running_comfyui(base, environ=environ) as second:
        yield second


def _of(kind: str) -> list[str]:
    return [prompt for prompt in EDITS if prompt.startswith(kind)]


def _all_at_once() -> Workflow:
    """One run of all edits; those that are to finish lead to a node that does not."""
    workflow = _edit(EDITS[0], SEED)
    own = workflow[workflow.node("FireRedEditFal")]["inputs"]
    for prompt in EDITS[1:]:
        added = workflow.add("FireRedEditFal", **{**own, "prompt": prompt})
        if prompt in _of(FINISHED):
            workflow.add("TestBlock", after=[added, 0], seconds=BLOCK_S)
        else:
            workflow.add("SaveImage", images=[added, 0], filename_prefix="never")
    return workflow


def _edit(prompt: str, seed: int) -> Workflow:
    workflow = shipped("firered_edit_fal")
    workflow.set("LoadImage", image="small.png")
    workflow.set("FireRedEditFal", prompt=prompt, seed=seed, num_inference_steps=3)
    return workflow


def _bring_on_their_way(stage: Stage, folder: Path) -> None:
    wait_until(lambda: len(stage.fal.jobs) == len(EDITS), START_S)
    for prompt in _of(FINISHED):
        stage.cues[prompt].set()
    awaited = {SENT: "submitting", RUNNING: "queued", FINISHED: "done"}
    expected = {prompt: state for kind, state in awaited.items() for prompt in _of(kind)}
    wait_until(lambda: _states(folder) == expected, START_S)


def _states(folder: Path) -> dict[str, str]:
    """What the journal has written down; nobody else takes notice of the question."""
    with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT prompt, state FROM jobs"))


def _listed(comfyui: ComfyUI) -> dict[str, dict[str, Any]]:
    """The edits that wait to be collected, by their prompts."""
    address = f"{comfyui.url}/firered/jobs"
    answer = comfyui.session.get(address, headers={"X-FireRed": "1"}, timeout=30)
    return {job["prompt"]: job for job in answer.json()["jobs"]}


def _gives_its_picture(comfyui: ComfyUI, workflow: Workflow, prompt_id: str) -> None:
    run = comfyui.finish(prompt_id)
    (image,) = run.images(workflow.node("SaveImage"))
    with Image.open(comfyui.output_file(image)) as opened:
        shown = to_tensor(np.asarray(opened.convert("RGB")))
    assert torch.equal(shown, wanted(small_edit(SEED)))


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_start_what_was_left_is_followed_without_a_run(
    restarted: ComfyUI, stage: Stage, kind: str
) -> None:
    prompt, folder = f"{kind}, left alone", data_folder(restarted.base)
    stage.cues[prompt].set()
    # Only the file is looked at: to ask for the list would have the same effect.
    wait_until(lambda: _states(folder)[prompt] == "done")
    listed = _listed(restarted)[prompt]
    assert listed["ready"]
    (job,) = stage.jobs(prompt)
    assert (listed["request_id"], job.units) == (job.request_id, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_edit_again_gives_its_picture_and_is_paid_once(
    restarted: ComfyUI, stage: Stage, kind: str
) -> None:
    prompt = f"{kind}, same seed"
    workflow = _edit(prompt, SEED)
    prompt_id = restarted.start(workflow)
    stage.cues[prompt].set()
    _gives_its_picture(restarted, workflow, prompt_id)
    assert [job.units for job in stage.jobs(prompt)] == [1]
    wait_until(lambda: prompt not in _listed(restarted))


@pytest.mark.parametrize("kind", KINDS)
def test_with_another_seed_what_is_paid_is_offered_before_anything_is_sent(
    restarted: ComfyUI, stage: Stage, kind: str
) -> None:
    prompt = f"{kind}, changed seed"
    with pytest.raises(RunFailed, match=f"Set seed {SEED} to collect it"):
        restarted.run(_edit(prompt, SEED + 1))
    assert len(stage.jobs(prompt)) == 1
    stage.cues[prompt].set()
    workflow = _edit(prompt, SEED)
    _gives_its_picture(restarted, workflow, restarted.start(workflow))
    assert [job.units for job in stage.jobs(prompt)] == [1]
