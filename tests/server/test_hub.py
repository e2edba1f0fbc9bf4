"""Models from the hub in a real ComfyUI: only after consent, and then for real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles.hub_server import HubServer
from firered_edit.pipeline.local.hub import RELEASES
from support.comfyui import ComfyUI, RunFailed, install_pack, running_comfyui, wait_until
from support.events import listening
from support.workflows import Workflow, saved

VERSION, RELEASE = next(iter(RELEASES.items()))

CONSENT = "FireRed.AllowDownloads"


def _consent(comfyui: ComfyUI, value: object) -> None:
    """What a click on the switch in Settings sends."""
    comfyui.post("/settings", {CONSENT: value}).raise_for_status()


def _choices(comfyui: ComfyUI, source: str) -> dict[str, Any]:
    """The inputs that FireRed Load Model shows for a source."""
    node = comfyui.get("/object_info/FireRedLoadModel")["FireRedLoadModel"]
    options = node["input"]["required"]["source"][1]["options"]
    (chosen,) = (option for option in options if option["key"] == source)
    return dict(chosen["inputs"]["required"])


@pytest.fixture
def from_hub(local: Workflow) -> Workflow:
    """The local workflow with its model from the hub."""
    source = {"source": "hub", "source.version": VERSION, "source.folder": None}
    local.set("FireRedLoadModel", **source)
    return local


@pytest.fixture
def offline(comfyui: ComfyUI) -> Iterator[ComfyUI]:
    """The server of all tests, which may not reach a hub; its settings are put back."""
    yield comfyui
    _consent(comfyui, False)


@pytest.mark.parametrize("value", [None, False, "true", 1])
def test_without_consent_nothing_is_downloaded_and_the_error_says_where_to_give_it(
    offline: ComfyUI, from_hub: Workflow, value: object
) -> None:
    if value is not None:
        _consent(offline, value)
    with pytest.raises(RunFailed) as caught:
        offline.run(from_hub)
    assert f"{VERSION} is not on this machine" in caught.value.message
    assert "57.7 GB" in caught.value.message
    assert "Settings > FireRed > Downloads" in caught.value.message


def test_consent_is_no_widget(offline: ComfyUI) -> None:
    assert list(_choices(offline, "hub")) == ["version"]


def test_with_consent_an_offline_machine_is_told_that_it_is_offline(
    offline: ComfyUI, from_hub: Workflow
) -> None:
    _consent(offline, True)
    with pytest.raises(RunFailed, match="HF_HUB_OFFLINE is set"):
        offline.run(from_hub)
    assert not list(_models(offline).glob(f"{VERSION}*"))


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[HubServer]:
    """A hub that has the tiny model where the real one has the real model."""
    with HubServer(tiny_model, RELEASE.repository, RELEASE.revision) as started:
        yield started


@pytest.fixture(scope="module")
def connected(
    hub: HubServer, comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """A second ComfyUI, whose hub is on loopback."""
    folder = tmp_path_factory.mktemp("connected")
    install_pack(folder)
    (folder / "input").symlink_to(comfyui.base / "input", target_is_directory=True)
    home = {"HF_HOME": str(folder / "huggingface"), "HF_TOKEN": "hf_a_token_that_must_stay_here"}
    environ = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, **home}
    with running_comfyui(folder, environ=environ) as server:
        yield server


@pytest.fixture
def online(connected: ComfyUI, hub: HubServer) -> ComfyUI:
    """That ComfyUI without models, without consent, and nothing asked of the hub yet."""
    shutil.rmtree(_models(connected), ignore_errors=True)
    _consent(connected, False)
    connected.forget()
    hub.requests.clear()
    hub.delay = 0.0
    return connected


def _models(comfyui: ComfyUI) -> Path:
    return comfyui.base / "models" / "diffusers"


def test_after_consent_the_model_is_downloaded_once_and_edits(
    online: ComfyUI, hub: HubServer, from_hub: Workflow
) -> None:
    with pytest.raises(RunFailed, match="downloads are not allowed"):
        online.run(from_hub)
    assert hub.requests == []

    _consent(online, True)
    with listening(online) as events:
        edited = saved(online, from_hub, online.run(from_hub))
    assert edited.size == (120, 90)
    assert any(text.startswith("downloading ") for text in events.texts)
    done, total = events.progress(from_hub.node("FireRedLoadModel"))[-1]
    assert done == total
    assert not any(asked.authorized for asked in hub.requests)

    assert _choices(online, "folder")["folder"][1]["options"] == [VERSION]
    # Once it is there, neither the hub nor consent is needed.
    hub.requests.clear()
    _consent(online, False)
    online.forget()
    assert saved(online, from_hub, online.run(from_hub)).tobytes() == edited.tobytes()
    assert hub.requests == []


def test_cancel_ends_a_download_and_the_next_run_goes_on_with_it(
    online: ComfyUI, hub: HubServer, from_hub: Workflow
) -> None:
    _consent(online, True)
    hub.delay = 0.3
    prompt_id = online.start(from_hub)
    wait_until(lambda: len(hub.fetched()) >= 4)
    online.post("/interrupt", {"prompt_id": prompt_id})
    with pytest.raises(RunFailed, match="interrupted"):
        online.finish(prompt_id, timeout=20)
    assert online.job(prompt_id)["status"] == "cancelled"
    (partial,) = _models(online).iterdir()
    assert partial.name.endswith(".partial")

    before = hub.fetched()
    assert before[-1] != "model_index.json"
    hub.requests.clear()
    hub.delay = 0.0
    online.run(from_hub)
    assert not set(hub.fetched()) & set(before[:-1])
    (whole,) = _models(online).iterdir()
    assert whole.name == VERSION
