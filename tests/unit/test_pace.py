"""How long an edit will take, and what its node says of it; the clock is the test's own."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from firered_edit.pipeline.board import BAR, Board, Slot, as_clock
from firered_edit.pipeline.fal import pacing as fal_pacing
from firered_edit.pipeline.fal.pacing import RunPace
from firered_edit.pipeline.host import Phase, PlainHost
from firered_edit.pipeline.local import pacing as local_pacing
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.pace import KEPT, KINDS, Paces, StepPace, in_turns
from firered_edit.pipeline.preparation import prepare
from firered_edit.pipeline.request import EditRequest

BEFORE_STEPS = ["reading the prompt", "reading the pictures", "preparing the steps"]

SUMMARY = "@image1 64x64\ncanvas 64x64 → 64x64\ncost $0.0325"


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


# The pace of steps ------------------------------------------------------------------------------


def _take(pace: StepPace, clock: Clock, *seconds: float) -> None:
    for spent in seconds:
        clock.go_on(spent)
        pace.step()


def test_nobody_knows_how_long_the_first_steps_of_the_first_edit_take(clock: Clock) -> None:
    pace = StepPace(40, clock=clock)
    assert pace.expected_s is None
    _take(pace, clock, 9.0, 2.0)
    assert pace.expected_s is None
    _take(pace, clock, 2.0)
    assert pace.expected_s == pytest.approx(9 + 39 * 2)


def test_the_first_step_warms_up_and_says_nothing_about_the_others(clock: Clock) -> None:
    slow, quick = StepPace(10, clock=clock), StepPace(10, clock=clock)
    _take(slow, clock, 60.0, 1.0, 1.0)
    assert slow.measured == pytest.approx(1.0)
    assert slow.expected_s == pytest.approx(60 + 9)
    assert quick.measured is None


def test_an_earlier_edit_counts_until_this_one_tells(clock: Clock) -> None:
    pace = StepPace(10, remembered=5.0, clock=clock)
    assert pace.expected_s == pytest.approx(50)
    _take(pace, clock, 6.0)
    assert pace.expected_s == pytest.approx(6 + 9 * 5)
    _take(pace, clock, 1.0, 1.0)
    assert pace.expected_s == pytest.approx(6 + 9)


def test_after_the_last_step_what_was_expected_is_what_was_spent(clock: Clock) -> None:
    pace = StepPace(4, clock=clock)
    _take(pace, clock, 3.0, 1.0, 1.5, 2.0)
    assert pace.expected_s == pytest.approx(7.5)


def test_the_middle_of_the_last_times_is_remembered_for_each_kind() -> None:
    paces = Paces()
    assert paces.of("a") is None
    for seconds in (100.0, 1.0, 2.0, 3.0, 50.0, 2.5):
        paces.remember("a", seconds)
    assert paces.of("a") == 2.5, f"of the last {KEPT}"
    assert paces.of("b") is None


def test_of_many_kinds_those_of_long_ago_are_forgotten() -> None:
    paces = Paces()
    for kind in range(KINDS + 1):
        paces.remember(kind, 1.0)
        paces.remember(1, 1.0)
    assert paces.of(0) is None
    assert paces.of(1) == paces.of(KINDS) == 1.0


@pytest.mark.parametrize(
    ("count", "at_once", "expected"), [(20, 16, 12.0), (16, 16, 6.0), (1, 16, 6.0), (3, 1, 18.0)]
)
def test_what_does_not_fit_in_at_once_takes_turns(
    count: int, at_once: int, expected: float
) -> None:
    assert in_turns(6.0, count, at_once) == expected


class _Phases(PlainHost):
    """Remembers the phases it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[Phase] = []

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase)


@pytest.mark.usefixtures("quick")
def test_a_local_edit_expects_what_the_one_before_it_took(
    tiny_model: Path, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_pacing, "_paces", Paces())
    expected = []
    for _ in range(2):
        host = _Phases()
        LocalEngine(load_folder(tiny_model, "auto", host), host).edit(asked)
        steps = [phase for phase in host.phases if phase.timed_by == "steps"]
        told = [phase.text for phase in host.phases if not phase.text.startswith("loading")]
        assert told == [*BEFORE_STEPS, *(f"step {done}/3" for done in range(4)), "decoding"]
        expected.append([phase.expected_s is not None for phase in steps])
    assert expected == [[False, False, False, True], [True] * 4]


# fal --------------------------------------------------------------------------------------------


@pytest.fixture
def no_paces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_pacing, "_paces", Paces())


def _work(clock: Clock, asked: EditRequest, seconds: float, whole: bool = True) -> None:
    pace = RunPace(prepare(asked), whole, clock)
    pace.note("IN_QUEUE")
    clock.go_on(60)
    pace.note("IN_PROGRESS")
    clock.go_on(seconds)
    pace.note("COMPLETED")


@pytest.mark.usefixtures("no_paces")
def test_fal_is_expected_to_take_what_it_took_without_the_queue(
    clock: Clock, asked: EditRequest
) -> None:
    assert RunPace(prepare(asked), True, clock).expected_s is None
    _work(clock, asked, 8.0)
    assert RunPace(prepare(asked), True, clock).expected_s == pytest.approx(8.0)


@pytest.mark.usefixtures("no_paces")
def test_more_steps_and_more_pictures_take_longer(clock: Clock, asked: EditRequest) -> None:
    _work(clock, asked, 8.0)
    twice = replace(asked, num_inference_steps=asked.num_inference_steps * 2, num_images=2)
    assert RunPace(prepare(twice), True, clock).expected_s == pytest.approx(32.0)
    other = replace(asked, acceleration="regular")
    assert RunPace(prepare(other), True, clock).expected_s is None


@pytest.mark.usefixtures("no_paces")
def test_a_job_that_ran_before_anybody_looked_tells_nothing(
    clock: Clock, asked: EditRequest
) -> None:
    _work(clock, asked, 0.5, whole=False)
    assert RunPace(prepare(asked), True, clock).expected_s is None


# What a node shows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.9, "0:00"), (34.0, "0:34"), (112.4, "1:52"), (725.0, "12:05"), (3720.0, "1:02:00")],
)
def test_seconds_are_shown_as_a_clock(seconds: float, shown: str) -> None:
    assert as_clock(seconds) == shown


def test_a_phase_has_a_clock_that_goes_on_while_its_words_change(
    board: Board, clock: Clock
) -> None:
    slot = board.enter()
    assert board.text() == ""
    board.tell(slot, Phase("queue position 4", "queue"))
    assert board.text() == "queue position 4", "no clock in the first second"
    clock.go_on(12)
    board.tell(slot, Phase("queue position 1", "queue"))
    assert board.text() == "queue position 1 · 0:12"
    board.tell(slot, Phase("running on fal", "run", 20.0))
    assert board.text() == "running on fal · 0:00 of about 0:20"
    clock.go_on(8)
    assert board.text() == "running on fal · 0:08 of about 0:20"
    clock.go_on(13)
    assert board.text() == "running on fal · 0:21, longer than expected"


def test_what_an_edit_came_to_stays_without_a_clock(board: Board, clock: Clock) -> None:
    slot = board.enter()
    board.tell(slot, Phase("decoding"))
    board.say(slot, SUMMARY)
    clock.go_on(30)
    assert board.text() == SUMMARY
    board.leave(slot, "done")
    board.tell(slot, Phase("step 1/2"))
    board.say(slot, "too late")
    assert board.text() == SUMMARY
    assert board.over


def test_a_node_without_words_of_its_own_says_how_long_it_took(board: Board, clock: Clock) -> None:
    slot = board.enter()
    board.tell(slot, Phase("loading the transformer"))
    clock.go_on(75)
    board.leave(slot, "done")
    assert board.text() == "done in 1:15"


def test_a_cancelled_edit_shows_no_phase(board: Board) -> None:
    slot = board.enter()
    board.tell(slot, Phase("step 12/40", "steps", 112.0))
    board.leave(slot, "cancelled", "cancelled")
    assert board.text() == "cancelled"


@pytest.mark.parametrize("late", [False, True], ids=["before it leaves", "after it has left"])
def test_what_a_cancel_means_for_the_price_is_the_last_word(board: Board, late: bool) -> None:
    slot = board.enter()
    board.tell(slot, Phase("queue position 1", "queue"))
    if late:
        board.leave(slot, "cancelled", "cancelled")
    board.say(slot, "cancelled while queued: not billed")
    board.leave(slot, "cancelled", "cancelled")
    assert board.text() == "cancelled while queued: not billed"


def test_a_failed_edit_shows_its_error_whatever_it_told_before_or_tells_later(
    board: Board,
) -> None:
    slot = board.enter()
    board.say(slot, SUMMARY)
    board.leave(slot, "failed", "No. Do this.")
    board.say(slot, SUMMARY)
    board.tell(slot, Phase("running on fal"))
    assert board.text() == "No. Do this."


def _enter(board: Board, count: int) -> list[Slot]:
    return [board.enter() for _ in range(count)]


def _at_fal(board: Board, slots: list[Slot], expected_s: float | None = None) -> None:
    for slot in slots:
        board.tell(slot, Phase("running on fal", "run", expected_s, "at fal"))


def test_a_list_at_fal_is_one_line_of_counts(board: Board, clock: Clock) -> None:
    slots = _enter(board, 20)
    _at_fal(board, slots[:16])
    assert board.text() == "20 edits: 16 at fal, 4 waiting"
    clock.go_on(55)
    for slot in slots[:7]:
        board.say(slot, SUMMARY)
        board.leave(slot, "done")
    _at_fal(board, slots[16:19])
    assert board.text() == "20 edits: 7 done, 12 at fal, 1 waiting · 0:55 of about 1:50"


def test_an_edit_that_is_through_counts_as_done_though_comfyui_has_not_taken_it(
    board: Board,
) -> None:
    slots = _enter(board, 2)
    _at_fal(board, slots)
    board.advance(slots[0], 100, 100)
    board.say(slots[0], SUMMARY)
    assert board.text().splitlines()[0] == "2 edits: 1 done, 1 at fal"


def test_a_list_expects_what_its_edits_are_expected_to_take(board: Board) -> None:
    slots = _enter(board, 4)
    _at_fal(board, slots[:2], 30.0)
    assert board.text() == "4 edits: 2 at fal, 2 waiting · 0:00 of about 1:00"


def test_the_last_of_a_list_is_shown_in_detail(board: Board, clock: Clock) -> None:
    slots = _enter(board, 3)
    _at_fal(board, slots)
    for slot in slots[:2]:
        board.leave(slot, "done")
    clock.go_on(2)
    board.tell(slots[2], Phase("downloading", counted="at fal"))
    assert board.text().splitlines()[1] == "downloading"


def test_a_list_ends_with_what_its_edits_came_to(board: Board, clock: Clock) -> None:
    slots = _enter(board, 3)
    clock.go_on(101)
    for slot in slots:
        board.say(slot, SUMMARY)
        board.leave(slot, "done")
    assert board.text().splitlines() == [
        "3 edits: 3 done · 1:41",
        "3 × @image1 64x64",
        "3 × canvas 64x64 → 64x64",
        "3 × cost $0.0325",
    ]


def test_a_list_that_failed_ends_with_the_first_error(board: Board) -> None:
    slots = _enter(board, 4)
    board.leave(slots[3], "failed", "The fourth failed.")
    board.leave(slots[1], "failed", "The second failed.")
    assert "2 failed" in board.text()
    for slot in (slots[0], slots[2]):
        board.say(slot, "good")
        board.leave(slot, "done")
    assert board.text().splitlines() == [
        "The second failed.",
        "4 edits: 2 done, 2 failed · 0:00",
        "2 × good",
    ]


def test_a_cancelled_list_says_what_became_of_each(board: Board) -> None:
    slots = _enter(board, 3)
    board.leave(slots[0], "done")
    for slot in slots[1:]:
        board.say(slot, "cancelled while queued: not billed")
        board.leave(slot, "cancelled", "cancelled")
    lines = ["3 edits: 1 done, 2 cancelled · 0:00", "2 × cancelled while queued: not billed"]
    assert board.text().splitlines() == lines


def test_what_many_edits_came_to_is_kept_short(board: Board) -> None:
    slots = _enter(board, 30)
    for number, slot in enumerate(slots):
        board.say(slot, f"canvas {number}")
        board.leave(slot, "done")
    lines = board.text().splitlines()
    assert len(lines) == 9
    assert lines[-1] == "and 23 more"


def test_a_list_that_runs_one_by_one_shows_the_number_of_the_edit(board: Board) -> None:
    for _ in range(2):
        slot = board.enter()
        board.tell(slot, Phase("step 1/2", "steps"))
        board.say(slot, SUMMARY)
        board.leave(slot, "done")
        assert board.text() == SUMMARY
    board.tell(board.enter(), Phase("step 0/2", "steps"))
    assert board.text() == "edit 3 · step 0/2"


def test_the_bar_of_a_list_is_its_share_and_never_goes_back(board: Board) -> None:
    alone = board.enter()
    board.advance(alone, 30, 100)
    assert board.bar() == (30, 100)
    others = _enter(board, 3)
    assert board.bar() == (int(BAR * 0.3 / 4), BAR)
    board.leave(alone, "done")
    assert board.bar() == (BAR / 4, BAR)
    board.advance(others[0], 50, 100)
    half = board.bar()
    board.advance(others[0], 10, 100)
    assert board.bar() == half == (int(BAR * 1.5 / 4), BAR)
    for slot in others:
        board.leave(slot, "failed")
    assert board.bar() == (BAR, BAR)


def test_threads_that_tell_at_once_lose_nothing(board: Board) -> None:
    entered = threading.Barrier(8)

    def work() -> None:
        slot = board.enter()
        entered.wait()
        for step in range(200):
            board.tell(slot, Phase(f"step {step}", counted="at fal"))
            board.advance(slot, step, 200)
            assert board.text()
        board.leave(slot, "done")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.over
    assert board.text() == "8 edits: 8 done · 0:00"
    assert board.bar() == (BAR, BAR)
