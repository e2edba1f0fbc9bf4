"""Whatever fal does, an artist pays once, gets what was paid for, and reads what is wrong."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from doubles.fal_server import FalServer, Fault
from firered_edit.pipeline.errors import EditCancelled, UncertainError
from firered_edit.pipeline.images import to_tensor
from firered_edit.pipeline.request import EditRequest
from support.fal_artist import Scenario, meet
from support.fal_fixtures import Listener, edit
from support.fal_matrix import FAULTS
from support.fal_trials import Trial, hurry

ENOUGH_S = 5.0


@pytest.mark.parametrize("scenario", FAULTS, ids=lambda scenario: scenario.name)
def test_a_fault(scenario: Scenario, tmp_path: Path) -> None:
    found = meet(scenario, tmp_path / "data")
    assert found.outcomes == scenario.outcomes
    counts = (found.submits, found.accepted, found.billed)
    assert counts == (scenario.submits, scenario.accepted, scenario.billed)
    assert not found.broken


def test_the_matrix_names_each_fault_once() -> None:
    names = [scenario.name for scenario in FAULTS]
    assert len(set(names)) == len(names) > 100


def test_an_engine_that_pays_twice_is_found_out(tmp_path: Path) -> None:
    def forgetful(trial: Trial) -> None:
        trial.fail("get", Fault.corrupt(), 3)
        trial.first_run.callback(lambda: (tmp_path / "data").rename(tmp_path / "lost"))

    found = meet(Scenario("a lost journal", forgetful, ""), tmp_path / "data", restarts=True)
    assert found.broken == ["billed twice", "billed and not counted"]


def test_cancel_during_a_look_up_leaves_the_edit_to_the_next_run(
    server: FalServer, asked: EditRequest
) -> None:
    server.fail("submit", Fault.reset())
    with ExitStack() as stack, pytest.raises(UncertainError):
        hurry(stack)
        edit(asked)
    other = replace(asked, seed=asked.seed + 1)
    looked = server.count("history")
    server.fail("history", Fault.hang(1.0))
    with pytest.raises(EditCancelled):
        edit(other, Listener(lambda: server.count("history") > looked))
    late = time.monotonic() + ENOUGH_S
    result = edit(other, Listener(lambda: time.monotonic() > late))
    assert torch.equal(result.images[0], to_tensor(asked.references[0].pixels))
