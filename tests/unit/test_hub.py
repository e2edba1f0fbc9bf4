"""Model folders from the hub: whole or not at all, resumed, weights only, never with a token."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from doubles.hub_server import HubServer
from firered_edit.pipeline.errors import (
    DownloadError,
    EditCancelled,
    FireRedError,
    InputError,
    SetupError,
)
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local import hub as hub_module
from firered_edit.pipeline.local.hub import RELEASES, Release, download, find_release
from firered_edit.pipeline.local.weights import load_folder

RELEASE = Release("FireRedTeam/tiny", "0123456789abcdef" * 2 + "01234567", 12_000_000)

NEVER = ("pytorch_model.bin", "model.pt", "run.py", "vae/weights.pkl", ".hidden.json", "a.jinja")

ALLOWED = (".safetensors", ".json", ".txt")


class Listener(PlainHost):
    """Remembers what it was told; cancels at a share of the whole."""

    def __init__(self, cancel_at: float = 2.0) -> None:
        super().__init__(cancelled=lambda: self.share >= cancel_at)
        self.said: list[str] = []
        self.shares: list[float] = []

    @property
    def share(self) -> float:
        return self.shares[-1] if self.shares else 0.0

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, value: int, total: int) -> None:
        self.shares.append(value / total)


@pytest.fixture
def server(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """A hub with the tiny model and some files that nobody should want."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "repository"))
    for name in NEVER:
        (folder / name).write_bytes(b"import os")
    with HubServer(folder, RELEASE.repository, RELEASE.revision) as started:
        template = f"{started.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", started.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        # Small enough for a tiny file to come in several pieces.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**14)
        monkeypatch.setenv("HF_TOKEN", "hf_a_token_that_must_stay_here")
        yield started
        huggingface_hub.close_session()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "diffusers" / "FireRed-tiny"


def _weights(server: HubServer) -> str:
    """The largest file."""
    return max(server.files, key=lambda name: server.files[name].stat().st_size)


def _contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _left(target: Path) -> list[Path]:
    """Everything beside ``target`` whose name begins with its name."""
    return sorted(target.parent.glob(f"{target.name}.*"))


def test_the_release_is_pinned_to_a_commit() -> None:
    for release in RELEASES.values():
        assert len(release.revision) == 40
        assert int(release.revision, 16)
    with pytest.raises(InputError, match="version is 'main'"):
        find_release("main")


def test_a_downloaded_folder_loads_and_is_the_original(
    server: HubServer, target: Path, tiny_model: Path
) -> None:
    host = Listener()
    assert download(RELEASE, target, host) == target
    load_folder(target, "auto", PlainHost())
    arrived, original = _contents(target), _contents(tiny_model)
    assert arrived == {name: original[name] for name in original if name.endswith(ALLOWED)}
    assert _left(target) == []
    assert host.shares[-1] == 1.0
    assert host.shares == sorted(host.shares)
    assert len(host.shares) > len(arrived)
    assert "downloading 0.0 of 0.0 GB" in host.said


def test_nothing_but_weights_and_their_configuration_is_fetched(
    server: HubServer, target: Path
) -> None:
    download(RELEASE, target, Listener())
    fetched = server.fetched()
    assert fetched
    assert all(name.endswith(ALLOWED) for name in fetched)
    assert not set(fetched) & {*NEVER, "../escape.json"}
    assert not list(target.parent.parent.rglob("escape*"))
    assert fetched[-1] == "model_index.json"


def test_no_token_is_sent(server: HubServer, target: Path) -> None:
    download(RELEASE, target, Listener())
    assert not any(asked.authorized for asked in server.requests)


def test_what_is_there_is_not_asked_for_again(server: HubServer, target: Path) -> None:
    download(RELEASE, target, Listener())
    server.requests.clear()
    assert download(RELEASE, target, Listener()) == target
    assert server.requests == []


def test_an_interrupted_download_is_no_model_and_goes_on_where_it_was(
    server: HubServer, target: Path
) -> None:
    weights, size = _weights(server), server.files[_weights(server)].stat().st_size
    server.cut = (weights, size // 2)
    broken = Listener()
    with pytest.raises(DownloadError, match="HTTP 503.*what has arrived is kept"):
        download(RELEASE, target, broken)
    assert not target.exists()
    (partial,) = _left(target)
    assert not (partial / "model_index.json").exists()
    assert not (partial / weights).exists()
    kept = (partial / f"{weights}.part").stat().st_size
    assert 0 < kept <= size // 2

    before = set(server.fetched())
    server.cut, server.status = None, 200
    server.requests.clear()
    host = Listener()
    download(RELEASE, target, host)
    assert f"bytes={kept}-" in [asked.range for asked in server.requests]
    assert set(server.fetched()) & before == {weights}
    assert (target / weights).read_bytes() == server.files[weights].read_bytes()
    # It shows at once what is there already, and does not count up to it again.
    assert broken.shares[-1] in host.shares
    assert broken.shares[-2] not in host.shares
    assert host.shares[-1] == 1.0


def test_a_server_without_ranges_begins_the_file_again(server: HubServer, target: Path) -> None:
    weights = _weights(server)
    server.cut = (weights, 2**16)
    with pytest.raises(DownloadError):
        download(RELEASE, target, Listener())
    server.cut, server.status, server.ignores_ranges = None, 200, True
    host = Listener()
    download(RELEASE, target, host)
    assert (target / weights).read_bytes() == server.files[weights].read_bytes()
    assert host.shares[-1] == 1.0


def test_a_connection_that_breaks_once_is_mended_by_itself(
    server: HubServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = _weights(server)
    server.cut = (weights, 2**16)

    def mend(_seconds: float) -> None:
        server.cut, server.status = None, 200

    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", mend)
    download(RELEASE, target, Listener())
    assert (target / weights).read_bytes() == server.files[weights].read_bytes()


def test_cancel_is_heard_in_the_middle_of_a_file_and_keeps_what_came(
    server: HubServer, target: Path
) -> None:
    host = Listener(cancel_at=0.5)
    with pytest.raises(EditCancelled):
        download(RELEASE, target, host)
    assert not target.exists()
    assert host.share < 0.6
    assert list(target.parent.rglob("*.part"))
    download(RELEASE, target, Listener())
    load_folder(target, "auto", PlainHost())


def test_cancel_before_the_first_byte_fetches_no_file(server: HubServer, target: Path) -> None:
    with pytest.raises(EditCancelled):
        download(RELEASE, target, Listener(cancel_at=0.0))
    assert server.fetched() == []


def test_a_full_disk_is_noticed_before_a_file_is_fetched(
    server: HubServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=0, used=0, free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(SetupError, match=r"needs 1\.0 GB of disk space.*1\.0 GB are free"):
        download(RELEASE, target, Listener())
    assert server.fetched() == []


def test_a_disk_that_fills_up_on_the_way_is_said(
    server: HubServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_module, "_append", full)
    with pytest.raises(SetupError, match="cannot be stored: No space left"):
        download(RELEASE, target, Listener())


def test_damage_on_the_way_is_noticed_and_the_file_fetched_anew(
    server: HubServer, target: Path
) -> None:
    server.damaged = _weights(server)
    with pytest.raises(DownloadError, match="did not arrive as the hub describes it"):
        download(RELEASE, target, Listener())
    assert not list(target.parent.rglob("*.part"))
    server.damaged = ""
    download(RELEASE, target, Listener())
    load_folder(target, "auto", PlainHost())


def _offline(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def _no_network(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")


def _answers(status: int) -> Callable[[HubServer, pytest.MonkeyPatch], None]:
    def change(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server.status = status

    return change


def _portal(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.page = b"<html>Welcome to our hotel</html>"


def _other_commit(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.offered_revision = "f" * 40


def _no_model(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    del server.files["model_index.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_offline, "HF_HUB_OFFLINE is set.*restart ComfyUI"),
        (_no_network, "connection to the hub failed.*network and proxy"),
        (_answers(401), "does not offer FireRedTeam/tiny.*HTTP 401.*Update the pack"),
        (_answers(403), "does not offer FireRedTeam/tiny.*HTTP 403"),
        (_answers(404), "does not offer FireRedTeam/tiny.*HTTP 404"),
        (_answers(500), "answered with HTTP 500.*Run again"),
        (_portal, "in place of the hub"),
        (_other_commit, "in place of the hub"),
        (_no_model, "in place of the hub"),
    ],
)
def test_a_hub_that_cannot_help_is_an_error_that_says_what_to_do(
    server: HubServer,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[HubServer, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    change(server, monkeypatch)
    with pytest.raises(DownloadError, match=words) as caught:
        download(RELEASE, target, Listener())
    assert len(str(caught.value)) <= 300
    assert not target.exists()


def test_a_folder_that_is_no_model_is_left_alone(server: HubServer, target: Path) -> None:
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("keep me")
    with pytest.raises(FireRedError, match=r"FireRed-tiny.* has no model_index\.json"):
        download(RELEASE, target, Listener())
    assert server.requests == []
    assert (target / "mine.txt").read_text() == "keep me"
