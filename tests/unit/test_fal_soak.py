"""A short soak: faults at random and a process that is killed, and no edit paid twice or lost."""

from __future__ import annotations

from collections import Counter

import pytest

from support.fal_soaks import SHARED, Plan, carry_out
from support.fal_tally import Outcome
from support.fal_worker import DELIVERED, UNNAMED, WRONG, Ended, prompt

PLAN = Plan(edits=60, workers=2, kills=1, run_seconds=0.3, seed=2)


@pytest.fixture(scope="module")
def found() -> Outcome:
    return carry_out(PLAN)


def test_every_edit_brings_its_own_picture(found: Outcome) -> None:
    assert not found.undelivered
    assert found.delivered == set(range(PLAN.edits))
    assert len(found.ended) == PLAN.edits + PLAN.edits // SHARED


def test_nothing_is_paid_twice_and_nothing_is_lost(found: Outcome) -> None:
    assert (found.billed_twice, found.lost, found.backlog) == ([], [], set())
    assert found.bills.total() == PLAN.edits
    assert found.is_sound


def test_there_was_something_to_survive(found: Outcome) -> None:
    assert found.kills == PLAN.kills
    assert found.taken >= 5


def test_the_count_tells_what_went_wrong() -> None:
    bills = Counter({(1, prompt(1)): 2, (2, prompt(2)): 1, (3, prompt(3)): 1})
    ended = [Ended(1, [], DELIVERED), Ended(2, ["UncertainError"], "fal may have accepted it.")]
    found = Outcome(bills=bills, ended=ended, backlog={(3, prompt(3))})
    assert (found.billed_twice, found.lost) == ([(1, prompt(1))], [(2, prompt(2))])
    assert not found.is_sound
    assert not Outcome(ended=[Ended(1, [], WRONG)]).is_sound
    assert not Outcome(ended=[Ended(1, [UNNAMED + "KeyError"], "'x'")]).is_sound
