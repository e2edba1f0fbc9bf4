"""When a request is tried again: pauses, patience, and what a server asks for."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import islice

import pytest

from firered_edit.pipeline.fal.protocol import repeating
from firered_edit.pipeline.fal.protocol.repeating import Again, pauses, repeat, rest, retry_after


class Clock:
    """Time that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class GaveUpError(Exception):
    pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(repeating, "time", made)
    # Sums of quarters are exact.
    monkeypatch.setattr(repeating, "_STOP_CHECK_S", 0.25)
    return made


@pytest.fixture
def longest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)


def never() -> bool:
    return False


def _failing(clock: Clock, after: float | None) -> tuple[Callable[[], str], list[float]]:
    """What always fails, and the moments at which it was tried."""
    tried: list[float] = []

    def once() -> str:
        tried.append(clock.now)
        raise Again("It broke.", after=after) from TimeoutError("the cause")

    return once, tried


def _give_up(failure: Again) -> GaveUpError:
    return GaveUpError(failure.problem)


def test_a_failure_that_may_pass_says_what_it_was() -> None:
    failure = Again("It broke.")
    assert (str(failure), failure.problem) == ("It broke.", "It broke.")
    assert (failure.remedy, failure.after) == ("", None)


def test_what_succeeds_is_tried_once(clock: Clock) -> None:
    assert repeat(lambda: "done", never, 0.0, _give_up) == "done"
    assert clock.now == 0.0


def test_what_the_server_asks_for_is_waited_while_patience_lasts(clock: Clock) -> None:
    once, tried = _failing(clock, after=1.0)
    with pytest.raises(GaveUpError, match=r"^It broke\.$") as caught:
        repeat(once, never, 3.0, _give_up)
    assert tried == [0.0, 1.0, 2.0, 3.0]
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_wait_beyond_patience_is_not_begun(clock: Clock) -> None:
    once, tried = _failing(clock, after=4.0)
    with pytest.raises(GaveUpError):
        repeat(once, never, 3.0, _give_up)
    assert (tried, clock.now) == ([0.0], 0.0)


@pytest.mark.usefixtures("longest_pauses")
def test_pauses_grow_where_the_server_asks_for_none(clock: Clock) -> None:
    once, tried = _failing(clock, after=None)
    with pytest.raises(GaveUpError):
        repeat(once, never, 4.0, _give_up)
    assert tried == [0.0, 0.25, 0.75, 1.75, 3.75]


@pytest.mark.usefixtures("longest_pauses")
def test_no_wait_asked_for_is_none(clock: Clock) -> None:
    answers = iter([Again("It broke.", after=0.0), Again("It broke.", after=0.0), None])

    def once() -> str:
        if failure := next(answers):
            raise failure
        return "done"

    assert repeat(once, never, 1.0, _give_up) == "done"
    assert clock.now == 0.0


def test_whoever_stops_it_ends_the_wait(clock: Clock) -> None:
    once, tried = _failing(clock, after=2.0)
    with pytest.raises(GaveUpError):
        repeat(once, lambda: clock.now >= 1.0, 60.0, _give_up)
    assert (tried, clock.now) == ([0.0], 1.0)


def test_pauses_are_random_and_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        bounds.append((least, most))
        return most

    monkeypatch.setattr(random, "uniform", uniform)
    # Doubled so often, a pause is beyond what a float holds.
    last = list(islice(pauses(), 2000))[-1]
    assert bounds[:9] == [(0, pause) for pause in (0.25, 0.5, 1, 2, 4, 8, 16, 20, 20)]
    assert last == 20.0


def test_a_rest_is_as_long_as_asked(clock: Clock) -> None:
    assert rest(0.6, never)
    assert clock.now == pytest.approx(0.6)


def test_a_rest_of_no_time_is_over_at_the_first_look(clock: Clock) -> None:
    looks = iter([False, True])
    assert rest(0.0, lambda: next(looks))


def test_a_rest_that_is_stopped_says_so(clock: Clock) -> None:
    assert not rest(5.0, lambda: clock.now >= 0.5)
    assert clock.now == 0.5


# What a server asks for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("120", 120.0), ("121", 120.0), ("9" * 400, 120.0)],
)
def test_seconds_to_wait(value: str, seconds: float) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_nothing_said_is_nothing_to_wait_for() -> None:
    assert retry_after({}) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "1.5",
        "Wed, 99 Oct 2099 07:28:00 GMT",
        "Wed, 21 Oct 2099 07:28:00 +99999999999999999999",
    ],
)
def test_what_is_not_understood_is_nothing_to_wait_for(value: str) -> None:
    assert retry_after({"Retry-After": value}) is None


EAST = timezone(timedelta(hours=5))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return NOW if tz is UTC else NOW.replace(tzinfo=None)

    monkeypatch.setattr(repeating, "datetime", Frozen)


@pytest.mark.parametrize(("from_now", "seconds"), [(90, 90.0), (-90, 0.0), (7200, 120.0)])
@pytest.mark.parametrize("zone", [UTC, EAST, None], ids=["GMT", "+0500", "none"])
@pytest.mark.usefixtures("frozen")
def test_a_date_to_wait_for(zone: timezone | None, from_now: int, seconds: float) -> None:
    there = (NOW + timedelta(seconds=from_now)).astimezone(zone or UTC)
    text = format_datetime(there if zone else there.replace(tzinfo=None), usegmt=zone is UTC)
    assert retry_after({"Retry-After": text}) == seconds
