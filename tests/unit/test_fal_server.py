"""The fal double, judged by fal's own client: what that takes for fal, our client may be shown."""

import base64
import http.client
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from doubles import fal_server
from doubles.fal_server import FalServer, Fault
from doubles.fal_server.faults import Phase
from doubles.fal_server.official import Call, environment, official_client, proxied
from doubles.fal_server.pictures import decode, encode, rounded
from doubles.fal_server.settings import APP_ID
from doubles.fal_server.storage import StoredFile

TESTS = Path(fal_server.__file__).parents[2]

SIZE = (1200, 900)
UNITS = 2
"""Of one picture of SIZE, which is 1.08 megapixels."""


PNG = encode(Image.linear_gradient("L").resize(SIZE), "png")
DATA_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def edit(prompt: str = "Make the sky pink", **changes: Any) -> dict[str, Any]:
    """The arguments of a call that edits the picture."""
    arguments = {"prompt": prompt, "image_urls": [DATA_URI], **changes}
    return {"application": APP_ID, "arguments": arguments}


def ask(server: FalServer, path: str, body: Any = None, key: str | None = None) -> bytes:
    """The body of an answer, without any client's help; raises when it has no proper end."""
    headers = {"Authorization": f"Key {key}"} if key else {}
    connection = http.client.HTTPConnection(server.host)
    with closing(connection):
        connection.request("POST" if body else "GET", path, body, headers)
        return connection.getresponse().read()


def submit(server: FalServer, **changes: Any) -> dict[str, Any]:
    body = json.dumps(edit(**changes)["arguments"])
    answer: dict[str, Any] = json.loads(ask(server, f"/{APP_ID}", body, server.key))
    return answer


def download(server: FalServer, url: str) -> Image.Image:
    return Image.open(io.BytesIO(ask(server, urlsplit(url).path)))


def test_subscribe_sees_queue_log_and_result() -> None:
    with FalServer(queue_seconds=0.9, run_seconds=0.6) as server, official_client(server) as call:
        answer = call("subscribe", **edit(seed=7), with_logs=True)
        updates = answer["updates"]
        positions = [update["position"] for update in updates if update["state"] == "Queued"]
        counts = [len(update["logs"]) for update in updates if update["state"] != "Queued"]
        assert positions == sorted(positions, reverse=True)
        assert 3 >= positions[0] > positions[-1] >= 1
        assert counts == sorted(counts)
        assert counts[-1] == 30
        assert updates[-1]["state"] == "Completed"
        assert updates[-1]["logs"][2]["message"] == "step 3/30"
        assert updates[-1]["metrics"]["inference_time"] >= 0.6

        picture = answer["value"]["images"][0]
        assert download(server, picture["url"]).size == SIZE
        assert (picture["width"], picture["height"]) == SIZE
        assert answer["value"]["seed"] == 7
        assert answer["value"]["has_nsfw_concepts"] == [False]
        assert [server.count(phase) for phase in ("submit", "result", "get")] == [1, 1, 1]
        assert server.count("status") > len(updates)
        assert (server.billed, server.billed_units, server.billed_usd) == (1, UNITS, 0.065)
        assert {request.had_key for request in server.requests if request.phase != "get"} == {True}


@pytest.mark.parametrize(
    ("options", "status", "billed"),
    [
        pytest.param({"queue_seconds": 30}, 404, 0, id="in the queue"),
        pytest.param({"run_seconds": 30, "cancellable": True}, 499, 0, id="obeyed"),
        pytest.param({"run_seconds": 0.3, "cancellable": False}, None, 1, id="ignored"),
    ],
)
def test_cancel(options: dict[str, Any], status: int | None, billed: int) -> None:
    with FalServer(**options) as server, official_client(server) as call:
        ours = {"application": APP_ID, "request_id": call("submit", **edit())["value"]}
        if not server.queue_seconds:
            while call("status", **ours)["value"]["state"] == "Queued":
                pass
        assert call("cancel", **ours) == {"value": None, "updates": []}
        assert call("result", **ours).get("status") == status
        assert server.billed == billed
        assert call("cancel", **ours)["status"] == (404 if status == 404 else 400)
        assert len(server.jobs) == 1


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FalServer, Call]]:
    with FalServer() as server, official_client(server) as call:
        yield server, call


@pytest.fixture
def fresh(shared: tuple[FalServer, Call]) -> tuple[FalServer, Call]:
    """The shared pair, with nothing on its books."""
    server, _ = shared
    server.requests.clear()
    server.jobs.clear()
    return shared


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "words"),
    [
        (edit(num_inference_steps=51), {}, 422, "less than or equal to 50"),
        (edit(image_size={"width": 0}), {}, 422, "'width'"),
        (edit(image_urls=["https://example.com/a.png"]), {}, 422, "Could not load image from url"),
        (edit("[policy]"), {}, 422, "content_policy_violation"),
        (edit("[error:runner_disconnected]"), {}, 503, "could not finish"),
        (edit() | {"start_timeout": 1.1}, {"queue_seconds": 30}, 504, "did not start"),
        (edit(), {"locked": True}, 403, "Exhausted balance"),
        (edit(), {"key": "somebody:else"}, 401, "No user found for Key ID and Secret"),
    ],
    ids=["range", "size", "image", "policy", "runner", "start", "locked", "key"],
)
def test_refusals_cost_nothing(
    fresh: tuple[FalServer, Call],
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    settings: dict[str, Any],
    status: int,
    words: str,
) -> None:
    server, call = fresh
    for name, value in settings.items():
        monkeypatch.setattr(server, name, value)
    answer = call("subscribe", **arguments)
    assert answer["status"] == status
    assert words in str(answer["message"])
    assert server.count("submit") == 1
    assert len(server.jobs) == (status not in (401, 403))
    assert server.billed == 0


@pytest.mark.parametrize(
    ("phase", "fault", "asked", "billed"),
    [
        pytest.param("submit", Fault.nginx(), 2, 1, id="nginx"),
        pytest.param("submit", Fault.throttle(), 2, 1, id="throttled"),
        pytest.param("submit", Fault.reset(), 2, 1, id="reset"),
        pytest.param("submit", Fault.hang(0.1), 1, 1, id="late"),
        pytest.param("result", Fault.truncate(), 2, 1, id="cut result"),
        # This client sends a submit again when the answer is lost, and so pays twice.
        pytest.param("submit", Fault.lose(), 2, 2, id="lost answer"),
    ],
)
def test_faults_that_the_official_client_survives(
    fresh: tuple[FalServer, Call], phase: Phase, fault: Fault, asked: int, billed: int
) -> None:
    server, call = fresh
    server.fail(phase, fault)
    assert call("subscribe", **edit())["value"]["images"]
    assert server.count(phase) == asked
    assert server.billed == billed


def test_a_fault_that_orphans_a_paid_job(fresh: tuple[FalServer, Call]) -> None:
    server, call = fresh
    server.fail("status", Fault.answer(503, {"detail": "Service unavailable"}))
    assert call("subscribe", **edit())["status"] == 503
    ours = {"application": APP_ID, "request_id": server.jobs[0].request_id}
    assert call("result", **ours)["value"]["images"]
    assert (server.count("submit"), server.billed) == (1, 1)


def test_pictures_as_asked() -> None:
    with FalServer(rounding="floor16") as server, official_client(server) as call:
        flagged = call("subscribe", **edit("[nsfw:2]", num_images=2))["value"]
        assert flagged["has_nsfw_concepts"] == [False, True]
        pictures = [download(server, image["url"]) for image in flagged["images"]]
        assert [picture.size for picture in pictures] == [(1200, 896)] * 2
        assert [picture.getbbox() is None for picture in pictures] == [False, True]

        wanted = edit(sync_mode=True, output_format="jpeg", image_size="square", colour="red")
        url = call("subscribe", **wanted)["value"]["images"][0]["url"]
        picture = decode(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))
        assert picture.size == (512, 512)
        assert server.jobs[-1].unknown_fields == ["colour"]
        assert (server.billed, server.billed_units) == (2, 2 * UNITS + 1)


def test_proxy_on_fal_own_hosts(tmp_path: Path) -> None:
    picture = tmp_path / "a picture.png"
    picture.write_bytes(PNG)
    with FalServer() as server, official_client(server, proxied) as call:
        first = call("upload_image", image=str(picture), format="png")["value"]
        server.fail("upload", Fault.answer(500))
        second = call("upload_file", path=str(picture))["value"]
        assert server.storage.find(second) == StoredFile(PNG, "image/png")
        result = call("subscribe", **edit(image_urls=[first, second]))["value"]
        urls = [first, second, result["images"][0]["url"]]
        assert [urlsplit(url).hostname for url in urls] == ["v3.fal.media"] * 3
        assert [download(server, url).size for url in urls] == [SIZE] * 3
        assert call("run", **edit())["value"]["images"]
        assert [server.count(phase) for phase in ("token", "upload", "initiate")] == [1, 3, 1]
        posts = [r for r in server.requests if (r.phase, r.method) == ("upload", "POST")]
        assert [(post.had_key, post.authorized) for post in posts] == [(False, True)] * 2
        assert {r.host for r in server.requests if r.phase == "run"} == {"fal.run"}
        assert server.billed == 2


def stream(server: FalServer, status_url: str) -> list[str]:
    """The events of a status stream, and its pings."""
    path = f"{urlsplit(status_url).path}/stream?logs=1"
    return ask(server, path, key=server.key).decode().split("\n\n")[:-1]


def test_stream_tells_only_news() -> None:
    with FalServer(queue_seconds=0.3, run_seconds=0.3, ping_seconds=0.05) as server:
        told = stream(server, submit(server, num_inference_steps=3)["status_url"])
        events = [json.loads(event[6:]) for event in told if event.startswith("data: ")]
        positions = [event["queue_position"] for event in events if "queue_position" in event]
        messages = [line["message"] for event in events for line in event.get("logs", [])]
        assert ": ping" in told
        assert positions == sorted(set(positions), reverse=True)
        assert messages == ["step 1/3", "step 2/3", "step 3/3"]
        assert events[-1]["status"] == "COMPLETED"
        assert server.billed == 1


def test_stream_cut_after_an_event() -> None:
    with FalServer(queue_seconds=0.1) as server:
        server.fail("stream", Fault.cut(1))
        with pytest.raises(http.client.IncompleteRead) as caught:
            stream(server, submit(server)["status_url"])
        assert caught.value.partial.count(b"data: ") == 1


def test_history_finds_a_job_by_its_input() -> None:
    with FalServer(queue_seconds=30) as server:
        request_id = submit(server, seed=7)["request_id"]
        path = f"/v1/models/requests/by-endpoint?endpoint_id={APP_ID}&expand=payloads"
        (item,) = json.loads(ask(server, path, key=server.key))["items"]
        assert (item["request_id"], item["json_input"]["seed"]) == (request_id, 7)
        server.history_lists_running = False
        assert json.loads(ask(server, path, key=server.key))["items"] == []


def test_corrupt_download() -> None:
    with FalServer() as server:
        path = server.storage.put(PNG, "image/png")
        server.fail("get", Fault.corrupt())
        damaged = download(server, path)
        assert damaged.size == SIZE
        with pytest.raises((OSError, SyntaxError)):
            damaged.load()
        assert download(server, path).getpixel((0, 0)) is not None


def test_rounding() -> None:
    sizes = [rounded(SIZE, habit) for habit in ("exact", "floor16", "refit1mp32")]
    assert sizes == [(1200, 900), (1200, 896), (1184, 896)]


def test_starting_and_stopping_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())
    for _ in range(20):
        with FalServer() as server:
            submit(server)
    assert set(threading.enumerate()) <= before


def test_as_a_process() -> None:
    runner = "doubles.fal_server.pictures:first_reference"
    process = subprocess.Popen(
        [sys.executable, "-m", "doubles.fal_server", "--runner", runner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=str(TESTS)),
    )
    with process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        with closing(connection):
            connection.request("GET", f"/{APP_ID}/requests/none/status")
            assert connection.getresponse().status == 401
    assert process.returncode == 0
