"""Everything that runs of both edit nodes leave behind, searched for the key and for pictures.

The browser's part, storage of the page included, is in tests/browser/test_key.py.
"""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from doubles.fal_server import FalServer, Fault
from support.comfyui import ComfyUI, RunFailed, running_comfyui, wait_until
from support.events import Events, listening
from support.fal_mishaps import FIELDS
from support.kinds import MakePhoto
from support.orphans import data_folder
from support.server_fixtures import MODEL_FOLDER, fal_environment, furnish
from support.workflows import Workflow, shipped

SECRET = "7d1f0c5be2a94c6f8b3e5a7c9d0e2f41"
KEY = f"5a1e0000-0000-4000-8000-0000000000a1:{SECRET}"

SCHEME = b"data:image"

ENVELOPES = 24
"""Characters of a picture in base64 that tell it from any other."""

READ = ("/history", "/queue", "/prompt", "/settings", "/system_stats", "/api/jobs", "/firered/jobs")
LOGS = ("/internal/logs", "/internal/logs/raw")


@dataclass
class Left:
    """What was left behind, by where it was found; and what fal was sent."""

    places: dict[str, bytes] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)

    def needles(self) -> dict[str, bytes]:
        """What must be nowhere, by what it is."""
        wholes = {"the key": KEY, "its secret": SECRET}
        found = {"a data URI": SCHEME}
        for name, text in wholes.items():
            found |= {name: text.encode(), f"{name}, for an address": quote(text).encode()}
            for shift in range(3):
                found[f"{name} in base64, {shift}"] = _inside_base64(text.encode(), shift)
        for number, picture in enumerate(self.pictures):
            text = base64.b64encode(picture)
            found[f"picture {number}"] = text[len(text) // 2 :][:ENVELOPES]
        return found

    def secrets(self) -> set[str]:
        return {
            f"{name} in {place}"
            for place, text in self.places.items()
            for name, needle in self.needles().items()
            if needle in text
        }


def _inside_base64(text: bytes, shift: int) -> bytes:
    """What of ``text`` does not depend on its neighbours where these bytes are before it."""
    encoded = base64.b64encode(b"\x00" * shift + text)
    return encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]


@dataclass
class Studio:
    """A ComfyUI that an artist works with, and its fal."""

    base: Path
    fal: FalServer
    left: Left = field(default_factory=Left)
    comfyui: ComfyUI = field(init=False)
    events: Events = field(init=False)

    def workflow(self, prompt: str, seed: int = 7, **inputs: Any) -> Workflow:
        made = shipped("firered_edit_fal")
        made.set("LoadImage", image="small.png")
        made.set("FireRedEditFal", prompt=prompt, seed=seed, num_inference_steps=3, **inputs)
        pictures = {"images": [made.node("FireRedEditFal"), 0], "filename_prefix": "moving"}
        options = {"fps": 1.0, "lossless": True, "quality": 90, "method": "default"}
        made.add("SaveAnimatedWEBP", **pictures, **options)
        made.add("PreviewImage", images=pictures["images"])
        return made

    def run(self, name: str, workflow: Workflow) -> None:
        """Press Run, as the page does: with the whole workflow along with its prompt."""
        drawn = {"extra_pnginfo": {"workflow": {"nodes": list(workflow.items())}}}
        try:
            self.comfyui.finish(self.comfyui.start(workflow, **drawn))
            self.left.outcomes[name] = "success"
        except RunFailed as failed:
            self.left.outcomes[name] = failed.message

    def edit(self, name: str, **inputs: Any) -> None:
        self.run(name, self.workflow(inputs.pop("prompt", name), **inputs))

    def collect(self, when: str) -> None:
        """Read everything there is now; the key file alone may hold the key."""
        places, comfyui = self.left.places, self.comfyui
        for route in (*READ, *LOGS):
            answer = comfyui.session.get(
                comfyui.url + route, headers={"X-FireRed": "1"}, timeout=30
            )
            assert answer.ok, route
            places[f"{route} {when}"] = answer.content
        places[f"websocket {when}"] = _heard(self.events)
        own = {self.base / "custom_nodes", self.base / "models", self.base / "input"}
        for file in self.base.rglob("*"):
            if file.is_file() and own.isdisjoint(file.parents) and file != key_file(self.base):
                name = file.relative_to(self.base).as_posix()
                places[f"{name} {when}"] = file.read_bytes()
                places[f"metadata of {name} {when}"] = _metadata(file)
        places[f"journal {when}"] = _rows(data_folder(self.base) / "journal.db")
        places |= {f"{name} {when}": data for name, data in self._previews()}
        self.left.pictures = _sent(self.fal)

    def _previews(self) -> Iterator[tuple[str, bytes]]:
        """Saved pictures as the page asks for them: as JPEG."""
        for file in (self.base / "output").glob("*.png"):
            query = {"filename": file.name, "type": "output", "preview": "jpeg;90"}
            answer = self.comfyui.session.get(f"{self.comfyui.url}/view", params=query, timeout=30)
            assert answer.content.startswith(b"\xff\xd8")
            yield f"{file.name} as jpeg", answer.content


def key_file(base: Path) -> Path:
    return data_folder(base) / "fal_key"


def _heard(events: Events) -> bytes:
    texts = [json.dumps(message) for message in events.messages] + events.texts
    return "\n".join(texts).encode() + b"".join(events.previews)


def _metadata(file: Path) -> bytes:
    """What is written in a picture beside its pixels."""
    with suppress(OSError), Image.open(file) as opened:
        opened.load()
        notes: Mapping[Any, Any] = {**opened.info, **opened.getexif()}
        return repr(notes).encode()
    return b""


def _rows(file: Path) -> bytes:
    """The journal as sqlite reads it: where it lies in the file is sqlite's own business."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return "\n".join(db.iterdump()).encode()


def _sent(fal: FalServer) -> list[bytes]:
    """The reference pictures as they went out, inside requests and to storage."""
    urls = {url for job in fal.jobs for url in job.arguments["image_urls"]}
    stored = [found.data for url in urls if (found := fal.storage.find(url))]
    inline = [base64.b64decode(url.partition(",")[2]) for url in urls if url.startswith("data:")]
    return [*stored, *inline]


@pytest.fixture(scope="module")
def studio(photo: MakePhoto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """After everything that may happen: a day's work, a crash of ComfyUI, and what follows."""
    base = furnish(tmp_path_factory.mktemp("secrets"))
    key_file(base).parent.mkdir(parents=True)
    key_file(base).write_text(KEY)
    Image.fromarray(photo(64, 48)).save(base / "input" / "small.png")
    Image.effect_noise((1400, 1400), 99).convert("RGB").save(base / "input" / "large.png")
    with FalServer(key=KEY) as fal:
        environ = fal_environment(fal.port, "")
        studio = Studio(base, fal)
        with running_comfyui(base, environ=environ) as studio.comfyui:
            with listening(studio.comfyui) as studio.events:
                _work(studio)
                studio.collect("at work")
            _crash(studio)
        studio.left.places["log before the crash"] = studio.comfyui.log.read_bytes()
        with (
            running_comfyui(base, environ=environ) as studio.comfyui,
            listening(studio.comfyui) as studio.events,
        ):
            _recover(studio)
            studio.collect("after the crash")
            yield studio


def _work(studio: Studio) -> None:
    """Runs that end in every way an edit can end."""
    fal = studio.fal
    studio.edit("success")
    _save_workflow(studio, studio.workflow("success"))
    studio.edit("success in private", sync_mode=True)
    studio.edit("success as jpeg", output_format="jpeg", upload_quality="jpeg 95")
    large = studio.workflow("success by storage")
    large.set("LoadImage", image="large.png")
    studio.run("success by storage", large)
    studio.edit("flagged", prompt="[nsfw]")
    studio.edit("runner failed", prompt="[error:runner_server_error]")
    fal.fail("submit", Fault.answer(401, {"detail": f"No user found for Key {KEY}"}))
    studio.edit("key refused")
    echo = f"Could not load data:image/png;base64,{'iVBORw0KGgo' * 99} for {KEY}"
    fal.fail("submit", Fault.answer(422, {"detail": echo}))
    studio.edit("picture refused")
    fal.fail("submit", Fault.answer(422, {"detail": [{**FIELDS[0], "input": echo}]}))
    studio.edit("field refused")
    fal.fail("result", Fault.answer(501, {"detail": echo}))
    studio.edit("server error")
    fal.fail("submit", Fault.reset())
    studio.edit("answer lost")
    studio.edit("not there", prompt="wear @image9")
    _locally(studio)
    _cancel(studio)


def _save_workflow(studio: Studio, workflow: Workflow) -> None:
    address = f"{studio.comfyui.url}/userdata/workflows%2Fmine.json"
    studio.comfyui.session.post(address, json=workflow, timeout=30).raise_for_status()


def _locally(studio: Studio) -> None:
    local = shipped("firered_edit_local")
    local.use_folder(MODEL_FOLDER)
    local.set("LoadImage", image="small.png")
    local.set("FireRedEdit", num_inference_steps=2)
    studio.run("local", local)
    local.set("FireRedEdit", prompt="wear @image9")
    studio.run("local, not there", local)


def _cancel(studio: Studio) -> None:
    prompt_id = _start_slowly(studio, "cancelled")
    studio.left.places["/queue while it runs"] = json.dumps(studio.comfyui.get("/queue")).encode()
    studio.comfyui.post("/interrupt", {}).raise_for_status()
    with pytest.raises(RunFailed, match="interrupted"):
        studio.comfyui.finish(prompt_id)
    studio.left.outcomes["cancelled"] = "interrupted"


def _start_slowly(studio: Studio, prompt: str) -> str:
    studio.fal.run_seconds = 4.0
    before = len(studio.fal.jobs)
    prompt_id = studio.comfyui.start(studio.workflow(prompt))
    wait_until(lambda: len(studio.fal.jobs) > before, 60.0)
    return prompt_id


def _crash(studio: Studio) -> None:
    _start_slowly(studio, "crashed")
    studio.comfyui.kill()
    studio.fal.run_seconds = 0.0


def _recover(studio: Studio) -> None:
    """What was under way is collected by itself, and given to whoever asks for it again."""
    wait_until(lambda: _is_ready(studio, "crashed"), 60.0)
    studio.edit("crashed")


def _is_ready(studio: Studio, prompt: str) -> bool:
    address = f"{studio.comfyui.url}/firered/jobs"
    answer = studio.comfyui.session.get(address, headers={"X-FireRed": "1"}, timeout=30)
    return any(job["ready"] for job in answer.json()["jobs"] if job["prompt"] == prompt)


EXPECTED = {
    "success": "success",
    "success in private": "success",
    "success as jpeg": "success",
    "success by storage": "success",
    "flagged": "fal's safety checker withheld every picture.",
    "runner failed": "The machine at fal failed (runner_server_error).",
    "key refused": "fal does not know this key.",
    "picture refused": "fal rejected the request: Could not load (picture data) for (key).",
    "field refused": "fal rejected the request: guidance_scale: Input should be less.",
    "server error": "fal answers with status 501.",
    "answer lost": "The connection broke while the edit was sent; fal may have accepted it.",
    "not there": "The prompt names @image9",
    "local": "success",
    "local, not there": "The prompt names @image9",
    "cancelled": "interrupted",
    "crashed": "success",
}
"""How each run ended; an error by its first words."""


def test_no_secret_is_left_anywhere(studio: Studio) -> None:
    assert studio.left.secrets() == set()


def test_the_runs_ended_as_they_were_meant_to(studio: Studio) -> None:
    ended = studio.left.outcomes
    assert set(ended) == set(EXPECTED)
    unlike = {name: words for name, words in ended.items() if EXPECTED[name] not in words}
    assert not unlike
    assert len(studio.left.pictures) >= 3


WHERE = (
    *("/history", "/queue while it runs", "/settings", "/firered/jobs", "/internal/logs"),
    *("websocket", "journal", "comfyui.log", "log before the crash", "user/__firered/journal.db"),
    *("output/firered_fal_", "metadata of output/firered_fal_", "metadata of output/moving_"),
    *("temp/", "user/default/", "comfyui.db", "user/__firered/results", "_.png as jpeg"),
)
"""Kinds of places that must have been looked at, by the beginning or a part of their names."""


@pytest.mark.parametrize("where", WHERE)
def test_every_kind_of_place_was_looked_at(studio: Studio, where: str) -> None:
    assert any(where in place and text for place, text in studio.left.places.items())


@pytest.fixture(scope="module")
def planted(studio: Studio) -> set[str]:
    """What is found where an artist has typed secrets into everything that can be typed into."""
    traitor = Studio(studio.base, studio.fal, Left())
    traitor.comfyui, traitor.events = studio.comfyui, studio.events
    loose = f"{KEY} data:image/png;base64,AAAA"
    traitor.edit("planted", prompt=loose)
    _save_workflow(traitor, traitor.workflow(loose))
    traitor.comfyui.post("/settings", {"FireRed.planted": loose}).raise_for_status()
    (studio.base / "temp").mkdir(exist_ok=True)
    notes = PngInfo()
    notes.add_text("planted", loose, zip=True)
    Image.new("RGB", (8, 8)).save(studio.base / "temp" / "planted.png", pnginfo=notes)
    with studio.comfyui.log.open("a") as log:
        log.write(f"Traceback: {quote(KEY)} {base64.b64encode(KEY.encode()).decode()}\n")
    kept = io.BytesIO(base64.b64encode(_sent(studio.fal)[0]))
    (studio.base / "user" / "planted.bin").write_bytes(b"xx" + kept.read())
    traitor.collect("planted")
    return traitor.left.secrets()


FOUND = (
    *("the key in /history", "a data URI in /history", "its secret in /settings"),
    *("its secret in websocket", "the key in journal", "the key in user/__firered/journal.db"),
    *("the key in output/firered_fal_", "a data URI in metadata of output/firered_fal_"),
    *("the key in metadata of output/moving_", "its secret in metadata of temp/planted.png"),
    *("the key, for an address in comfyui.log", "the key in base64, 0 in comfyui.log"),
    *("its secret in user/default/workflows", "picture 0 in user/planted.bin"),
)


@pytest.mark.parametrize("finding", FOUND)
def test_a_secret_that_is_there_is_found(planted: set[str], finding: str) -> None:
    assert any(found.startswith(finding) for found in planted)


def test_a_secret_inside_base64_is_found_wherever_it_begins() -> None:
    for before in range(6):
        left = Left({"here": base64.b64encode(b"a" * before + KEY.encode() + b"bc")})
        assert left.secrets()
    assert not Left({"here": base64.b64encode(b"no secret at all")}).secrets()
