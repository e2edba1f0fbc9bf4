"""The fal double, judged by fal's own client: what that takes for fal, our client may be shown."""

import base64
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from doubles import fal_server
from doubles.fal_server import FalServer, Fault
from doubles.fal_server.faults import Phase
from doubles.fal_server.pictures import encode, rounded
from doubles.fal_server.settings import APP_ID

OFFICIAL = Path(fal_server.__file__).with_name("official.py")
TESTS = OFFICIAL.parents[2]

Call = Callable[..., dict[str, Any]]
"""A method of fal's own client; its value and queue updates, or the error it raised."""

SIZE = (1200, 900)
UNITS = 2
"""Of one picture of SIZE, which is 1.08 megapixels."""


def gradient() -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE).convert("RGB")


def data_uri(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encode(image, "png")).decode()


def edit(prompt: str = "Make the sky pink", **changes: Any) -> dict[str, Any]:
    """The arguments of a call that edits the gradient."""
    arguments = {"prompt": prompt, "image_urls": [data_uri(gradient())], **changes}
    return {"application": APP_ID, "arguments": arguments}


def direct(server: FalServer) -> dict[str, str]:
    return {"FAL_RUN_HOST": server.run_host, "FAL_QUEUE_RUN_HOST": server.https_host}


def proxied(server: FalServer) -> dict[str, str]:
    return {"HTTPS_PROXY": server.url}


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what might lead a client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | changes


@contextmanager
def official_client(
    server: FalServer, way: Callable[[FalServer], dict[str, str]] = direct
) -> Iterator[Call]:
    settings = {"FAL_KEY": server.key, "SSL_CERT_FILE": str(server.ca_file), **way(server)}
    process = subprocess.Popen(
        [sys.executable, OFFICIAL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(**settings),
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def call(method: str, **arguments: Any) -> dict[str, Any]:
            asked.write(json.dumps([method, arguments]) + "\n")
            asked.flush()
            answer: dict[str, Any] = json.loads(answered.readline())
            return answer

        yield call


def download(server: FalServer, url: str) -> Image.Image:
    with urllib.request.urlopen(server.url + urlsplit(url).path) as response:
        return Image.open(io.BytesIO(response.read()))


def is_black(image: Image.Image) -> bool:
    return image.getbbox() is None


def test_subscribe_sees_queue_log_and_result() -> None:
    with FalServer(queue_seconds=0.9, run_seconds=0.6) as server, official_client(server) as call:
        answer = call("subscribe", **edit(seed=7), with_logs=True)
        updates = answer["updates"]
        positions = [update["position"] for update in updates if update["state"] == "Queued"]
        counts = [len(update["logs"]) for update in updates if update["state"] != "Queued"]
        assert sorted(set(positions), reverse=True) == list(dict.fromkeys(positions)) == [3, 2, 1]
        assert counts == sorted(counts)
        assert counts[-1] == 30
        assert updates[-1]["state"] == "Completed"
        assert updates[-1]["logs"][2]["message"] == "step 3/30"
        assert updates[-1]["metrics"]["inference_time"] >= 0.6

        picture = answer["value"]["images"][0]
        assert (picture["width"], picture["height"]) == download(server, picture["url"]).size == SIZE
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
def refusing() -> Iterator[tuple[FalServer, Call]]:
    with FalServer(queue_seconds=2, queue_ahead=1) as server, official_client(server) as call:
        server.queue_seconds = 0
        yield server, call


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
)
def test_refusals_cost_nothing(
    refusing: tuple[FalServer, Call],
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    settings: dict[str, Any],
    status: int,
    words: str,
) -> None:
    server, call = refusing
    for name, value in settings.items():
        monkeypatch.setattr(server, name, value)
    submits, jobs = server.count("submit"), len(server.jobs)
    answer = call("subscribe", **arguments)
    assert answer["status"] == status
    assert words in str(answer["message"])
    assert server.count("submit") == submits + 1
    assert len(server.jobs) == jobs + (status not in (401, 403))
    assert server.billed == 0


@pytest.mark.parametrize(
    ("phase", "fault", "asked", "billed"),
    [
        ("submit", Fault.nginx(), 2, 1),
        ("submit", Fault.throttle(), 2, 1),
        ("submit", Fault.reset(), 2, 1),
        ("submit", Fault.hang(0.1), 1, 1),
        ("result", Fault.truncate(), 2, 1),
        # This client sends a lost submit again, and so pays twice.
        ("submit", Fault.lose(), 2, 2),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_faults_that_the_official_client_survives(
    phase: Phase, fault: Fault, asked: int, billed: int
) -> None:
    with FalServer() as server, official_client(server) as call:
        server.fail(phase, fault)
        assert call("subscribe", **edit())["value"]["images"]
        assert server.count(phase) == asked
        assert server.billed == billed


def test_a_fault_that_orphans_a_paid_job() -> None:
    with FalServer(run_seconds=0.2) as server, official_client(server) as call:
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
        assert [is_black(picture) for picture in pictures] == [False, True]

        wanted = edit(sync_mode=True, output_format="jpeg", image_size="square", colour="red")
        url = call("subscribe", **wanted)["value"]["images"][0]["url"]
        with urllib.request.urlopen(url) as response, Image.open(response) as picture:
            assert (picture.format, picture.size) == ("JPEG", (512, 512))
        assert server.jobs[-1].unknown_fields == ["colour"]
        assert (server.billed, server.billed_units) == (2, 2 * UNITS + 1)


def test_proxy_on_fal_own_hosts(tmp_path: Path) -> None:
    picture = tmp_path / "a picture.png"
    gradient().save(picture)
    with FalServer() as server, official_client(server, proxied) as call:
        first = call("upload_image", image=str(picture), format="png")["value"]
        server.fail("upload", Fault.answer(500))
        second = call("upload_file", path=str(picture))["value"]
        assert server.storage.find(second) == server.storage.find(first).__class__(
            picture.read_bytes(), "image/png"
        )
        result = call("subscribe", **edit(image_urls=[first, second]))["value"]
        assert {urlsplit(url).hostname for url in (first, second, result["images"][0]["url"])} == {
            "v3.fal.media"
        }
        assert download(server, result["images"][0]["url"]).size == SIZE
        assert call("run", **edit())["value"]["images"]
        assert [server.count(phase) for phase in ("token", "upload", "initiate")] == [1, 3, 1]
        posts = [r for r in server.requests if (r.phase, r.method) == ("upload", "POST")]
        assert [(post.had_key, post.authorized) for post in posts] == [(False, True)] * 2
        assert {r.host for r in server.requests if r.phase == "run"} == {"fal.run"}
        assert server.billed == 2


def submit(server: FalServer, **changes: Any) -> dict[str, Any]:
    body = json.dumps(edit(**changes)["arguments"]).encode()
    headers = {"Authorization": f"Key {server.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/{APP_ID}", body, headers)
    with urllib.request.urlopen(request) as response:
        document: dict[str, Any] = json.load(response)
        return document


def stream(server: FalServer, status_url: str) -> list[str]:
    """The events of a stream and its pings; raises when it has no proper end."""
    connection = http.client.HTTPConnection(server.host)
    try:
        path = f"{urlsplit(status_url).path}/stream?logs=1"
        connection.request("GET", path, headers={"Authorization": f"Key {server.key}"})
        return connection.getresponse().read().decode().split("\n\n")[:-1]
    finally:
        connection.close()


def test_stream_tells_only_news() -> None:
    with FalServer(queue_seconds=0.3, run_seconds=0.3, ping_seconds=0.05) as server:
        told = stream(server, submit(server, num_inference_steps=3)["status_url"])
        events = [json.loads(event[6:]) for event in told if event.startswith("data: ")]
        assert ": ping" in told
        assert [event["queue_position"] for event in events[:3]] == [3, 2, 1]
        assert [line["message"] for event in events[4:] for line in event["logs"]] == [
            "step 1/3", "step 2/3", "step 3/3",
        ]  # fmt: skip
        assert events[-1]["status"] == "COMPLETED"
        assert server.billed == 1


def test_stream_cut_after_an_event() -> None:
    with FalServer(queue_seconds=0.1) as server:
        server.fail("stream", Fault.cut(1))
        with pytest.raises(http.client.IncompleteRead) as caught:
            stream(server, submit(server)["status_url"])
        assert caught.value.partial.count(b"data: ") == 1


def test_corrupt_download() -> None:
    with FalServer() as server:
        path = server.storage.put(encode(gradient(), "png"), "image/png")
        server.fail("get", Fault.corrupt())
        damaged = download(server, path)
        assert damaged.size == SIZE
        with pytest.raises((OSError, SyntaxError)):
            damaged.load()
        assert download(server, path).getpixel((0, 0)) is not None


@pytest.mark.parametrize(
    ("rounding", "size"),
    [("exact", (1200, 900)), ("floor16", (1200, 896)), ("refit1mp32", (1184, 896))],
)
def test_rounding(rounding: str, size: tuple[int, int]) -> None:
    assert rounded(SIZE, rounding) == size


def test_starting_and_stopping_leaves_nothing_behind() -> None:
    before = threading.active_count()
    for _ in range(20):
        with FalServer() as server:
            submit(server)
    assert threading.active_count() == before


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
        addresses = json.loads(process.stdout.readline())
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{addresses['url']}/{APP_ID}/requests/none/status")
        assert caught.value.code == 401
        caught.value.close()
    assert process.returncode == 0
