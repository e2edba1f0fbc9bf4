"""Edits on fal that were left behind, listed and collected through the pack's own routes."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from doubles.fal_server import FalServer
from doubles.fal_server.settings import APP_ID
from firered_edit.pipeline.fal.protocol.answers import Job
from firered_edit.pipeline.images import encode_png
from support.comfyui import ComfyUI, install_pack, running_comfyui, wait_until
from support.kinds import MakePhoto
from support.orphans import COST, Orphan, data_folder, leave_at_fal, leave_finished
from support.server_fixtures import FAL_KEY

JOBS = "/firered/jobs"
COLLECT = "/firered/jobs/collect"
GIVE_UP = "/firered/jobs/give_up"
CACHE = "/firered/cache"
CLEAR = "/firered/cache/clear"
OURS = {"X-FireRed": "1"}

SIZE = (96, 64)
LEFT_BEHIND = Orphan("make it autumn", seed=1)


def _state(folder: Path, orphan: Orphan) -> str:
    """What the journal in ``folder`` has written down; nobody else takes notice of the question."""
    with closing(sqlite3.connect(f"file:{folder / 'journal.db'}?mode=ro", uri=True)) as db:
        (state,) = db.execute("SELECT state FROM jobs WHERE key = ?", (orphan.key,)).fetchone()
    return str(state)


@pytest.fixture(scope="module")
def fal_of_then() -> Iterator[FalServer]:
    """The fal that a process had ordered an edit from before it died."""
    with FalServer(key=FAL_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def restarted(
    fal_of_then: FalServer, photo: MakePhoto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """A ComfyUI that starts with an edit at fal that nobody waits for."""
    base = tmp_path_factory.mktemp("restarted")
    install_pack(base)
    leave_at_fal(data_folder(base), LEFT_BEHIND, _submitted(fal_of_then, photo(*SIZE)), SIZE)
    with running_comfyui(base, environ=fal_of_then.environment) as server:
        yield server


def _submitted(fal: FalServer, picture: Any) -> Job:
    uri = "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode()
    body = {"prompt": LEFT_BEHIND.prompt, "seed": LEFT_BEHIND.seed, "image_urls": [uri]}
    key = {"Authorization": f"Key {fal.key}"}
    answer = requests.post(f"{fal.url}/{APP_ID}", json=body, headers=key, timeout=10).json()
    names = ("request_id", "status_url", "response_url", "cancel_url")
    return Job(*(answer[name] for name in names))


def _jobs(comfyui: ComfyUI) -> dict[str, Any]:
    response = comfyui.session.get(comfyui.url + JOBS, headers=OURS, timeout=30)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    return dict(response.json())


def _row(comfyui: ComfyUI, orphan: Orphan) -> dict[str, Any] | None:
    return next((job for job in _jobs(comfyui)["jobs"] if job["key"] == orphan.key), None)


def _post(
    comfyui: ComfyUI, route: str, body: bytes | Mapping[str, Any], **headers: str
) -> requests.Response:
    data = json.dumps(body) if isinstance(body, Mapping) else body
    own = {**OURS, "Content-Type": "application/json", **headers}
    return comfyui.session.post(comfyui.url + route, data=data, headers=own, timeout=30)


def _collected(comfyui: ComfyUI, orphan: Orphan) -> list[Path]:
    response = _post(comfyui, COLLECT, {"key": orphan.key})
    assert response.status_code == 200, response.text
    return [comfyui.base / "output" / name for name in response.json()["files"]]


def test_what_was_left_at_fal_is_followed_from_the_start_on_and_can_be_collected(
    restarted: ComfyUI, fal_of_then: FalServer
) -> None:
    folder = data_folder(restarted.base)
    # Nobody has asked for the list yet, which would have the same effect.
    wait_until(lambda: _state(folder, LEFT_BEHIND) == "done")
    row = _row(restarted, LEFT_BEHIND)
    assert row is not None
    assert row["ready"]
    assert row["request_id"] == fal_of_then.jobs[0].request_id
    (file,) = _collected(restarted, LEFT_BEHIND)
    with Image.open(file) as saved:
        assert saved.size == SIZE
    assert _row(restarted, LEFT_BEHIND) is None
    assert fal_of_then.billed == len(fal_of_then.jobs) == 1


def test_a_finished_edit_is_listed_with_its_price_and_saved_without_loss(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    orphan = Orphan('<b>snow</b> & "frost" 雪', seed=2**53 - 1)
    pictures = [photo(60, 40), photo(60, 40)[::-1].copy()]
    before = _jobs(restarted)["spent_today"]
    leave_finished(data_folder(restarted.base), orphan, pictures)
    row = _row(restarted, orphan)
    assert row is not None
    assert row.pop("ordered_at") == pytest.approx(_now(restarted), abs=60)
    assert row == {
        "key": orphan.key,
        "prompt": orphan.prompt,
        "seed": orphan.seed,
        "state": "done",
        "ready": True,
        "request_id": orphan.request_id,
        "cost": COST,
    }
    assert _jobs(restarted)["spent_today"] - before == pytest.approx(COST)

    files = _collected(restarted, orphan)
    assert len(files) == len(pictures)
    for file, picture in zip(files, pictures, strict=True):
        with Image.open(file) as saved:
            assert saved.format == "PNG"
            assert np.array_equal(np.asarray(saved), picture)
            told = json.loads(saved.text["firered"])  # type: ignore[attr-defined]
        assert told.items() == {
            ("prompt", orphan.prompt),
            ("seed", orphan.seed),
            ("request_id", orphan.request_id),
        }
        assert FAL_KEY.encode() not in file.read_bytes()


def _now(comfyui: ComfyUI) -> float:
    """The time by the clock of the disk that ``comfyui`` writes to."""
    probe = comfyui.base / "probe"
    probe.touch()
    return probe.stat().st_mtime


def test_names_are_counted_on_as_save_image_does_and_nothing_is_written_over(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    output = restarted.base / "output"
    (output / "FireRed_00041_.png").write_bytes(b"somebody else's")
    orphan = Orphan("counted on", seed=3)
    leave_finished(data_folder(restarted.base), orphan, [photo(20, 20), photo(20, 20)])
    names = [file.name for file in _collected(restarted, orphan)]
    assert names == ["FireRed_00042_.png", "FireRed_00043_.png"]
    assert (output / "FireRed_00041_.png").read_bytes() == b"somebody else's"


def test_what_is_collected_already_is_refused_in_words(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    orphan = Orphan("only once", seed=4)
    leave_finished(data_folder(restarted.base), orphan, [photo(20, 20)])
    _collected(restarted, orphan)
    saved = sorted((restarted.base / "output").iterdir())
    again = _post(restarted, COLLECT, {"key": orphan.key})
    assert again.status_code == 409
    assert again.json() == {"error": "This edit does not wait to be collected. Refresh the list."}
    assert sorted((restarted.base / "output").iterdir()) == saved


def test_without_the_packs_header_nothing_is_told_or_done(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    orphan = Orphan("private", seed=5)
    leave_finished(data_folder(restarted.base), orphan, [photo(20, 20)])
    answers = []
    for headers in ({}, {"X-FireRed": "0"}, {"X-FireRed": "1, 1"}):
        body = {"key": orphan.key}
        for route in (JOBS, f"/api{JOBS}", CACHE):
            answers.append(requests.get(restarted.url + route, headers=headers, timeout=30))
        for route in (COLLECT, GIVE_UP, CLEAR):
            url = restarted.url + route
            answers.append(requests.post(url, json=body, headers=headers, timeout=30))
    assert {answer.status_code for answer in answers} == {403}
    assert {answer.text for answer in answers} == {'{"error": "The header X-FireRed is missing."}'}
    assert _row(restarted, orphan) is not None


def test_another_site_is_not_given_leave_to_send_the_header(restarted: ComfyUI) -> None:
    preflight = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "x-firered",
    }
    answer = requests.options(restarted.url + JOBS, headers=preflight, timeout=30)
    assert "Access-Control-Allow-Headers" not in answer.headers


@pytest.mark.parametrize("route", [COLLECT, GIVE_UP])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b"[" * 4096, 400),
        ({}, 400),
        (b"[]", 400),
        ({"key": 7}, 400),
        ({"key": "A" * 64}, 400),
        ({"key": "a" * 63}, 400),
        ({"key": "a" * 64 + "\n"}, 400),
        ({"key": "../" * 21 + "a"}, 400),
        (b" " * 4097, 413),
        ({"key": "0" * 64}, 409),
    ],
)
def test_a_body_that_names_no_edit_is_refused_with_one_sentence(
    restarted: ComfyUI, route: str, body: bytes | Mapping[str, Any], status: int
) -> None:
    answer = _post(restarted, route, body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("route", [COLLECT, GIVE_UP, CLEAR])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_read(restarted: ComfyUI, route: str, kind: str) -> None:
    answer = _post(restarted, route, {"key": "0" * 64}, **{"Content-Type": kind})
    assert answer.status_code == 415


def test_what_is_given_up_is_listed_no_more_and_said_once(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    orphan = Orphan("no longer wanted", seed=8)
    leave_finished(data_folder(restarted.base), orphan, [photo(20, 20)])
    saved = sorted((restarted.base / "output").iterdir())
    assert _row(restarted, orphan) is not None
    assert _post(restarted, GIVE_UP, {"key": orphan.key}).json() == {}
    assert _row(restarted, orphan) is None
    assert _post(restarted, GIVE_UP, {"key": orphan.key}).status_code == 409
    assert _post(restarted, COLLECT, {"key": orphan.key}).status_code == 409
    assert sorted((restarted.base / "output").iterdir()) == saved
    assert f"request {orphan.request_id} on fal was given up" in restarted.log.read_text()


def _cache(comfyui: ComfyUI) -> dict[str, Any]:
    response = comfyui.session.get(comfyui.url + CACHE, headers=OURS, timeout=30)
    assert response.status_code == 200
    return dict(response.json())


def test_clearing_deletes_what_was_collected_and_never_what_waits(
    restarted: ComfyUI, photo: MakePhoto
) -> None:
    folder = data_folder(restarted.base)
    _post(restarted, CLEAR, {}).raise_for_status()
    before = _cache(restarted)
    assert before["delivered"] == {"count": 0, "bytes": 0}
    collected, waits = Orphan("collected", seed=9), Orphan("still waits", seed=10)
    for orphan in (collected, waits):
        leave_finished(folder, orphan, [photo(30, 20)])
    (saved,) = _collected(restarted, collected)
    size = len(encode_png(photo(30, 20)))
    kept = _cache(restarted)
    assert kept["delivered"] == {"count": 1, "bytes": size}
    assert kept["waiting"] == {
        "count": before["waiting"]["count"] + 1,
        "bytes": before["waiting"]["bytes"] + size,
    }
    assert kept["records"]["bytes"] > 0

    cleared = _post(restarted, CLEAR, {}).json()
    assert cleared["delivered"] == {"count": 0, "bytes": 0}
    assert cleared["waiting"] == kept["waiting"]
    assert not list(folder.glob(f"results/*/{collected.key}*"))
    assert saved.exists()
    assert _collected(restarted, waits)
