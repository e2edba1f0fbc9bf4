"""The bridge's part in what an artist reads: what is sent, how often, where an error leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from firered_edit.pipeline import errors
from firered_edit.pipeline.errors import FireRedError
from firered_edit.pipeline.host import Phase
from support.comfyui import wait_until
from support.inside import bridge

CLIENT = "page"
RUN = "run"


class Server:
    """Stands in for ComfyUI's: remembers what it was to send."""

    def __init__(self) -> None:
        self.client_id: str | None = CLIENT
        self.last_prompt_id = RUN
        self.texts: list[tuple[float, str]] = []
        self.events: list[tuple[str, dict[str, Any], str]] = []

    def send_progress_text(self, text: str, node_id: str, client: str) -> None:
        assert client == CLIENT
        self.texts.append((time.monotonic(), text))

    def send_sync(self, event: str, data: dict[str, Any], client: str) -> None:
        self.events.append((event, data, client))


@pytest.fixture
def progress() -> ModuleType:
    bridge()
    from firered_edit.nodes.host import progress

    return progress


@pytest.fixture
def failing() -> ModuleType:
    bridge()
    from firered_edit.nodes.host import failing

    return failing


@pytest.fixture
def server(progress: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    from server import PromptServer

    standing_in = Server()
    monkeypatch.setattr(PromptServer, "instance", standing_in, raising=False)
    monkeypatch.setattr(progress, "_displays", progress._Displays())
    yield standing_in
    wait_until(lambda: not _clocks())


def _clocks() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "firered-clock"]


def test_no_more_than_four_texts_are_sent_in_any_second_and_the_last_one_is(
    progress: ModuleType, server: Server
) -> None:
    ticket = progress.enter(RUN, "1")
    began = time.monotonic()
    step = 0
    while time.monotonic() - began < 2.5:
        ticket.phase(Phase(f"step {step}", "steps"))
        step += 1
        time.sleep(0.01)
    ticket.say("the end")
    ticket.leave("done")
    wait_until(lambda: server.texts[-1][1] == "the end")
    times = [at for at, _ in server.texts]
    # The time is taken before a text is sent, and noted after.
    busiest = [sum(0 <= later - at < 0.95 for later in times) for at in times]
    assert max(busiest) <= progress.PER_SECOND
    assert len(times) >= 8, "and what may be sent is"


def test_the_clock_ticks_each_second_and_ends_with_the_edit(
    progress: ModuleType, server: Server
) -> None:
    ticket = progress.enter(RUN, "1")
    ticket.phase(Phase("decoding"))
    wait_until(lambda: server.texts[-1][1] == "decoding · 0:02")
    assert [text for _, text in server.texts] == [
        "decoding",
        "decoding · 0:01",
        "decoding · 0:02",
    ]
    assert len(_clocks()) == 1
    ticket.leave("cancelled", "cancelled")
    wait_until(lambda: not _clocks())
    assert server.texts[-1][1] == "cancelled"


def test_one_thread_ticks_for_all_nodes(progress: ModuleType, server: Server) -> None:
    tickets = [progress.enter(RUN, str(node)) for node in range(10)]
    for ticket in tickets:
        ticket.phase(Phase("decoding"))
    assert len(_clocks()) == 1
    for ticket in tickets:
        ticket.leave("done")


def test_what_outlives_its_run_says_nothing_in_the_next(
    progress: ModuleType, server: Server
) -> None:
    old = progress.enter(RUN, "1")
    old.phase(Phase("running on fal"))
    server.last_prompt_id = "another run"
    new = progress.enter("another run", "1")
    new.phase(Phase("decoding"))
    before = len(server.texts)
    old.phase(Phase("downloading"))
    old.say("the old one's summary")
    old.progress(1, 2, None)
    new.leave("done")
    old.leave("done")
    wait_until(lambda: not _clocks())
    assert {text for _, text in server.texts[before:]} <= {"done in 0:00"}


def test_without_a_page_nothing_is_sent(
    progress: ModuleType, failing: ModuleType, server: Server
) -> None:
    server.client_id = None
    ticket = progress.enter(RUN, "1")
    ticket.phase(Phase("decoding"))
    failing.tell(errors.InputError("No.", "Do this."), RUN, "1")
    ticket.leave("failed", "No. Do this.")
    assert (server.texts, server.events) == ([], [])


def _all(kind: type[FireRedError]) -> set[type[FireRedError]]:
    return {kind}.union(*(_all(below) for below in kind.__subclasses__()))


def test_of_every_error_it_is_decided_where_it_leads(failing: ModuleType) -> None:
    own = {kind for kind in _all(FireRedError) if hasattr(errors, kind.__name__)}
    assert set(failing.CURES) == own


@pytest.mark.parametrize(
    ("error", "cures"),
    [
        (errors.InputError("No.", "Do this."), ["node"]),
        (errors.MissingKeyError("No.", "Set FAL_KEY."), ["settings"]),
        (errors.CostError("Too dear.", "Raise max_cost, or lower the size."), ["node"]),
        (errors.CostError("Too dear.", "Raise it in Settings > FireRed > fal."), ["settings"]),
        (errors.SetupError("No.", "Allow them in Settings > FireRed > Downloads."), ["settings"]),
        (errors.AccountError("No.", "Check the key at fal.ai/dashboard/keys."), ["settings"]),
        (errors.AccountError("No.", "See fal.ai/dashboard/billing."), ["billing", "settings"]),
        (errors.UncollectedError("No.", "Collect it."), ["settings"]),
    ],
)
def test_an_error_leads_to_where_its_remedy_is(
    failing: ModuleType, error: FireRedError, cures: list[str]
) -> None:
    assert failing.cures_of(error) == cures


def test_a_failure_is_told_in_two_parts_to_one_page(failing: ModuleType, server: Server) -> None:
    secret = "data:image/png;base64,iVBORw0KGgo="
    failing.tell(errors.RejectedError(f"fal refused {secret}.", "Send another."), RUN, "3:12")
    ((event, told, client),) = server.events
    assert (event, client) == ("firered.error", CLIENT)
    assert told == {
        "prompt_id": RUN,
        "node_id": "3:12",
        "problem": "fal refused (picture data)",
        "remedy": "Send another.",
        "cures": ["node"],
    }
