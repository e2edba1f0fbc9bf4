"""The fal double, judged by fal's JavaScript client, where node and that package are to be had."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from doubles.fal_server import FalServer, Fault
from doubles.fal_server.faults import Phase
from doubles.fal_server.npm import PACKAGE, Call, npm_client
from doubles.fal_server.pictures import encode
from doubles.fal_server.settings import APP_ID
from doubles.fal_server.storage import StoredFile
from support.npm import install, program

SIZE = (120, 90)
PNG = encode(Image.linear_gradient("L").resize(SIZE), "png")
BASE64 = base64.b64encode(PNG).decode()
FILE = {"file": "a picture.png", "type": "image/png", "base64": BASE64}


def edit(prompt: str = "Make the sky pink", **changes: Any) -> dict[str, Any]:
    urls = [f"data:image/png;base64,{BASE64}"]
    return {"prompt": prompt, "image_urls": urls, "num_inference_steps": 3, **changes}


@pytest.fixture(scope="module")
def node() -> str:
    return program("node")


@pytest.fixture(scope="module")
def package(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fal's client in it."""
    folder = tmp_path_factory.mktemp("npm")
    install(folder, PACKAGE)
    return folder


@pytest.fixture(scope="module")
def shared(node: str, package: Path) -> Iterator[tuple[FalServer, Call]]:
    with FalServer() as server, npm_client(server, node, package) as call:
        yield server, call


@pytest.fixture
def fresh(shared: tuple[FalServer, Call]) -> tuple[FalServer, Call]:
    """The shared pair, with nothing on its books."""
    server, _ = shared
    server.requests.clear()
    server.jobs.clear()
    return shared


def picture_of(server: FalServer, data: dict[str, Any]) -> Image.Image:
    """The first picture of an answer, as it lies in the double's storage."""
    stored = server.storage.find(data["images"][0]["url"])
    assert stored is not None
    return Image.open(io.BytesIO(stored.data))


@pytest.mark.parametrize(
    ("way", "statuses", "streams"),
    [
        pytest.param({"pollInterval": 20}, None, 0, id="polling"),
        pytest.param({"mode": "streaming"}, 0, 1, id="streaming"),
    ],
)
def test_subscribe_sees_queue_log_and_result(
    fresh: tuple[FalServer, Call],
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, Any],
    statuses: int | None,
    streams: int,
) -> None:
    server, call = fresh
    monkeypatch.setattr(server, "queue_seconds", 0.6)
    monkeypatch.setattr(server, "run_seconds", 0.45)
    answer = call("subscribe", APP_ID, {"input": edit(seed=7), "logs": True, **way})
    updates = answer["updates"]
    waiting = [update for update in updates if update["status"] == "IN_QUEUE"]
    positions = [update["queue_position"] for update in waiting]
    counts = [len(update["logs"]) for update in updates if update not in waiting]
    assert positions == sorted(positions, reverse=True)
    assert 3 >= positions[0] > positions[-1] >= 1
    assert counts == sorted(counts)
    assert [line["message"] for line in updates[-1]["logs"]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert updates[-1]["status"] == "COMPLETED"
    assert updates[-1]["metrics"]["inference_time"] >= 0.45

    assert answer["value"]["requestId"] == server.jobs[0].request_id
    assert answer["value"]["data"]["seed"] == 7
    assert picture_of(server, answer["value"]["data"]).size == SIZE
    assert server.count("status") == (len(updates) if statuses is None else statuses)
    assert [server.count(phase) for phase in ("submit", "stream", "result")] == [1, streams, 1]
    assert {request.had_key for request in server.requests} == {True}
    assert server.billed == 1


@pytest.mark.parametrize(
    ("settings", "status", "billed"),
    [
        pytest.param({"queue_seconds": 30}, 404, 0, id="in the queue"),
        pytest.param({"run_seconds": 30, "cancellable": True}, 499, 0, id="obeyed"),
        pytest.param({"run_seconds": 0.3, "cancellable": False}, None, 1, id="ignored"),
    ],
)
def test_cancel(
    fresh: tuple[FalServer, Call],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    status: int | None,
    billed: int,
) -> None:
    server, call = fresh
    for name, value in settings.items():
        monkeypatch.setattr(server, name, value)
    submitted = call("submit", APP_ID, {"input": edit()})["value"]
    assert submitted["status"] == "IN_QUEUE"
    ours = {"requestId": submitted["request_id"]}
    if not server.queue_seconds:
        while call("status", APP_ID, ours)["value"]["status"] == "IN_QUEUE":
            pass
        early = call("result", APP_ID, ours)
        assert (early["status"], early["body"]["detail"]) == (400, "Request is still in progress")
    assert call("cancel", APP_ID, ours) == {"updates": []}
    while call("status", APP_ID, ours).get("value", {"status": ""})["status"] == "IN_PROGRESS":
        pass
    assert call("result", APP_ID, ours).get("status") == status
    assert server.billed == billed
    again = call("cancel", APP_ID, ours)
    known = "NOT_FOUND" if status == 404 else "ALREADY_COMPLETED"
    assert (again["status"], again["body"]["status"]) == (404 if status == 404 else 400, known)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_inference_steps": 51}, "less than or equal to 50"),
        ({"prompt": "[policy]"}, "content checker"),
        ({"image_urls": ["https://example.com/a.png"]}, "Could not load image from url"),
    ],
    ids=["range", "policy", "image"],
)
def test_a_validation_error_names_the_field(
    fresh: tuple[FalServer, Call], changes: dict[str, Any], words: str
) -> None:
    server, call = fresh
    answer = call("subscribe", APP_ID, {"input": edit(**changes), "pollInterval": 20})
    assert (answer["type"], answer["status"]) == ("ValidationError", 422)
    assert words in answer["fields"][0]["msg"]
    assert answer["request_id"] == server.jobs[0].request_id
    assert server.billed == 0


@pytest.mark.parametrize(
    ("options", "settings", "status", "words"),
    [
        ({"input": edit("[error:internal_error]")}, {}, 500, "could not finish"),
        ({"input": edit(), "startTimeout": 1.1}, {"queue_seconds": 30}, 504, "did not start"),
        ({"input": edit()}, {"locked": True}, 403, "Exhausted balance"),
        ({"input": edit()}, {"key": "somebody:else"}, 401, "No user found for Key ID and Secret"),
    ],
    ids=["runner", "start", "locked", "key"],
)
def test_refusals_cost_nothing(
    fresh: tuple[FalServer, Call],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    settings: dict[str, Any],
    status: int,
    words: str,
) -> None:
    server, call = fresh
    for name, value in settings.items():
        monkeypatch.setattr(server, name, value)
    answer = call("subscribe", APP_ID, {"pollInterval": 20, **options})
    assert (answer["type"], answer["status"]) == ("ApiError", status)
    assert words in answer["body"]["detail"]
    # A start that the client itself limited is told from fal's own 504, and not tried again.
    assert (server.count("submit"), server.count("result")) == (1, int(status not in (401, 403)))
    assert server.billed == 0


@pytest.mark.parametrize("method", ["status", "result", "cancel"])
def test_a_request_that_fal_does_not_know(fresh: tuple[FalServer, Call], method: str) -> None:
    _, call = fresh
    answer = call(method, APP_ID, {"requestId": "5a1e0000-0000-4000-8000-000000000000"})
    assert (answer["type"], answer["status"]) == ("ApiError", 404)


def test_uploads_by_hand_and_within_an_input(fresh: tuple[FalServer, Call]) -> None:
    server, call = fresh
    url = call("upload", FILE)["value"]
    assert url.endswith("a%20picture.png")
    assert server.storage.find(url) == StoredFile(PNG, "image/png")
    sent = edit(image_urls=[url, FILE])
    data = call("subscribe", APP_ID, {"input": sent, "pollInterval": 20})["value"]["data"]
    assert picture_of(server, data).size == SIZE
    first, second = server.jobs[0].arguments["image_urls"]
    assert first == url
    assert server.storage.find(second) == StoredFile(PNG, "image/png")
    assert [server.count(phase) for phase in ("initiate", "upload", "token")] == [2, 2, 0]
    assert {request.had_key for request in server.requests if request.phase == "upload"} == {False}


def test_run_without_the_queue(fresh: tuple[FalServer, Call]) -> None:
    server, call = fresh
    value = call("run", APP_ID, {"input": edit()})["value"]
    assert value["requestId"] == server.jobs[0].request_id
    assert picture_of(server, value["data"]).size == SIZE
    assert [request.phase for request in server.requests] == ["run"]


@pytest.mark.parametrize(
    ("phase", "fault", "billed"),
    [
        pytest.param("submit", Fault.throttle(), 1, id="throttled"),
        pytest.param("submit", Fault.nginx(502), 1, id="nginx"),
        pytest.param("status", Fault.answer(503, {"detail": "busy"}), 1, id="busy"),
        pytest.param("result", Fault.truncate(), 1, id="cut result"),
        # This client, too, sends a submit again when the answer is lost, and so pays twice.
        pytest.param("submit", Fault.lose(), 2, id="lost answer"),
    ],
)
def test_faults_that_the_npm_client_survives(
    fresh: tuple[FalServer, Call], phase: Phase, fault: Fault, billed: int
) -> None:
    server, call = fresh
    server.fail(phase, fault)
    answer = call("subscribe", APP_ID, {"input": edit(), "pollInterval": 1000})
    assert picture_of(server, answer["value"]["data"]).size == SIZE
    before = server.requests[: [request.phase for request in server.requests].index(phase) + 2]
    assert [request.phase for request in before[-2:]] == [phase, phase]
    assert before[-1].at - before[-2].at >= 0.74
    assert server.billed == billed
