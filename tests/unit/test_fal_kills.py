"""A process may die at any point: what is paid for is paid once, and can be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fal_deaths import (
    POINTS,
    Mortal,
    Point,
    Sequel,
    after,
    dies_while_it_is_sent_anew,
    mortal,
)


@pytest.fixture(scope="module")
def forked() -> Iterator[Mortal]:
    """The process whose forks die."""
    with mortal() as started:
        yield started


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
@pytest.mark.parametrize("sequel", ["same seed", "changed seed", "start-up"])
def test_a_death(point: Point, sequel: Sequel, forked: Mortal, tmp_path: Path) -> None:
    found = after(point, sequel, forked, tmp_path)
    assert found.outcomes == point.expected(sequel)
    assert found.well
    assert found.submits <= 1
    if sequel != "start-up":
        assert found.billed == 1


def test_what_may_be_at_fal_is_not_forgotten_by_a_death_on_the_second_way_there(
    forked: Mortal, tmp_path: Path
) -> None:
    found = dies_while_it_is_sent_anew(forked, tmp_path)
    assert (found.outcomes, found.submits, found.billed) == ("picture", 1, 1)
