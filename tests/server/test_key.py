"""The routes of the fal key, over real HTTP: what they do, and whom they turn away."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from doubles.fal_server import FalServer, Fault
from support.comfyui import ComfyUI, install_pack, running_comfyui
from support.orphans import data_folder
from support.server_fixtures import FAL_KEY, fal_environment

KEY = "/firered/key"
REMOVE = "/firered/key/remove"
TEST = "/firered/key/test"
ROUTES = (KEY, REMOVE, TEST)
"""Those that write or use the key."""

JSON = {"X-FireRed": "1", "Content-Type": "application/json"}

REMOTE = "On a remote ComfyUI set FAL_KEY in its environment and restart it."


@pytest.fixture(scope="module")
def started(fal_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI that finds no key in its environment."""
    with _without_key(tmp_path_factory.mktemp("keyless"), fal_port) as server:
        yield server


@pytest.fixture
def keyless(started: ComfyUI) -> ComfyUI:
    """The same without a key file."""
    _key_file(started).unlink(missing_ok=True)
    return started


def _without_key(base: Path, fal_port: int, *options: str) -> AbstractContextManager[ComfyUI]:
    install_pack(base)
    return running_comfyui(base, environ=fal_environment(fal_port, ""), options=("--cpu", *options))


def _key_file(comfyui: ComfyUI) -> Path:
    return data_folder(comfyui.base) / "fal_key"


def _status(comfyui: ComfyUI, **headers: str) -> Any:
    answer = requests.get(
        comfyui.url + KEY, headers={"X-FireRed": "1", **_named(headers)}, timeout=30
    )
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _post(comfyui: ComfyUI, route: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body)
    own = {**JSON, **_named(headers)}
    return requests.post(comfyui.url + route, data=data, headers=own, timeout=30)


def test_a_key_is_put_where_only_its_user_can_read_it_and_never_told(keyless: ComfyUI) -> None:
    assert _status(keyless) == {"source": "none", "writable": True}
    answer = _post(keyless, KEY, {"key": f" {FAL_KEY}\n"})
    assert answer.status_code == 200
    assert answer.json() == _status(keyless) == {"source": "file", "writable": True}
    file = _key_file(keyless)
    assert file.read_text() == f"{FAL_KEY}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    log = keyless.log.read_text()
    assert "the fal key was set in Settings" in log
    assert FAL_KEY not in log


def test_a_saved_key_is_at_once_the_one_that_is_used_and_removed_it_is_gone(
    keyless: ComfyUI, fal: FalServer
) -> None:
    _post(keyless, KEY, {"key": FAL_KEY}).raise_for_status()
    assert _post(keyless, TEST, {}).json() == {"outcome": "works", "reason": ""}
    removed = _post(keyless, REMOVE, {})
    assert removed.json() == _status(keyless) == {"source": "none", "writable": True}
    assert not _key_file(keyless).exists()
    assert _post(keyless, REMOVE, {}).status_code == 200
    without = _post(keyless, TEST, {})
    assert without.status_code == 409
    assert without.json()["error"].startswith("No fal key was found. Get one at")
    assert fal.billed == len(fal.jobs) == 0


def test_fals_refusal_and_its_silence_are_told_apart(keyless: ComfyUI, fal: FalServer) -> None:
    _post(keyless, KEY, {"key": "some:other"}).raise_for_status()
    assert _post(keyless, TEST, {}).json() == {
        "outcome": "refused",
        "reason": "fal does not know this key. Check the key at fal.ai/dashboard/keys.",
    }
    _post(keyless, KEY, {"key": FAL_KEY}).raise_for_status()
    fal.fail("history", Fault.answer(503), 999)
    assert _post(keyless, TEST, {}).json()["outcome"] == "unreachable"
    fal.close()
    silent = _post(keyless, TEST, {}).json()
    assert silent["outcome"] == "unreachable"
    assert "refused the connection" in silent["reason"]


def test_a_key_in_the_environment_comes_first_and_is_not_written_over(
    comfyui: ComfyUI, fal: FalServer
) -> None:
    assert _status(comfyui) == {"source": "environment", "writable": True}
    answer = _post(comfyui, KEY, {"key": "some:other"})
    assert answer.status_code == 409
    assert "Change FAL_KEY there and restart ComfyUI." in answer.json()["error"]
    assert not _key_file(comfyui).exists()
    assert _post(comfyui, TEST, {}).json()["outcome"] == "works"
    assert fal.count("history") == 1


# Who is turned away ---------------------------------------------------------------------------

EVIL = "evil.example"

FORGED: dict[str, dict[str, str]] = {
    "a name that was made to lead here": {"Host": EVIL, "Origin": f"http://{EVIL}"},
    "the same, without an origin": {"Host": EVIL},
    "the same, with the port": {"Host": f"{EVIL}:{{port}}", "Origin": f"http://{EVIL}:{{port}}"},
    "a name that begins like ours": {"Host": "127.0.0.1.evil.example:{port}"},
    "a name under localhost": {"Host": "localhost.evil.example"},
    "a login before the name": {"Host": "localhost@evil.example"},
    "a login before our name": {"Host": "evil@127.0.0.1:{port}"},
    "a path behind our name": {"Host": "127.0.0.1/evil.example"},
    "an address of the network": {"Host": "192.168.1.7:{port}"},
    "no address": {"Host": "0.0.0.0:{port}"},
    "a number": {"Host": "2130706433:{port}"},
    "no name": {"Host": ""},
    "another site": {"Origin": "https://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "another of our names": {"Origin": "http://localhost:{port}"},
    "our name without the port": {"Origin": "http://127.0.0.1"},
    "a page without an origin": {"Origin": "null"},
    "a page of a file": {"Origin": "file://127.0.0.1:{port}"},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site, as another port is": {"Sec-Fetch-Site": "same-site"},
    "a proxy": {"X-Forwarded-For": "203.0.113.7"},
    "a proxy that says it comes from here": {"X-Forwarded-For": "127.0.0.1"},
    "a proxy of the standard": {"Forwarded": "for=203.0.113.7"},
    "a proxy that names the host": {"X-Forwarded-Host": EVIL},
    "a proxy with a header of its own": {"X-Real-IP": "203.0.113.7"},
    "a cache": {"Via": "1.1 cache"},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_what_does_not_come_from_a_page_here_is_refused(
    keyless: ComfyUI, fal: FalServer, forged: dict[str, str]
) -> None:
    _write_key(keyless)
    headers = {name: value.format(port=keyless.port) for name, value in forged.items()}
    for route in ROUTES:
        answer = _post(keyless, route, {"key": "some:other"}, **headers)
        assert answer.status_code == 403
        # Some are caught by ComfyUI's own check, which says nothing.
        assert answer.text == "" or REMOTE in answer.json()["error"]
    assert _key_file(keyless).read_text() == FAL_KEY
    assert fal.requests == []


def _write_key(comfyui: ComfyUI) -> None:
    _key_file(comfyui).parent.mkdir(parents=True, exist_ok=True)
    _key_file(comfyui).write_text(FAL_KEY)


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "127.0.0.1"), ("Host", EVIL)],
        [("Host", "127.0.0.1"), ("Origin", "http://127.0.0.1"), ("Origin", f"http://{EVIL}")],
        [("Host", "127.0.0.1"), ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")],
        [("Host", "127.0.0.1"), ("X-FireRed", "1")],
        [],
    ],
    ids=str,
)
def test_a_header_that_comes_twice_or_not_at_all_is_refused(
    keyless: ComfyUI, fal: FalServer, headers: Sequence[tuple[str, str]]
) -> None:
    _write_key(keyless)
    for route in ROUTES:
        assert _raw(keyless, route, headers) in (400, 403)
    assert _key_file(keyless).read_text() == FAL_KEY
    assert fal.requests == []


def _raw(comfyui: ComfyUI, route: str, headers: Sequence[tuple[str, str]]) -> int:
    """The status of a request with just these headers beside our own."""
    body = json.dumps({"key": "some:other"}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", comfyui.port, timeout=30)
    connection.putrequest("POST", route, skip_host=True)
    for name, value in [*headers, *JSON.items(), ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_can_send_is_refused(keyless: ComfyUI, route: str, kind: str) -> None:
    _write_key(keyless)
    body = {"key": "some:other"}
    assert _post(keyless, route, body, Content_Type=kind).status_code == 415
    unmarked = requests.post(keyless.url + route, json=body, timeout=30)
    assert unmarked.status_code == 403
    assert unmarked.json() == {"error": "The header X-FireRed is missing."}
    assert _key_file(keyless).read_text() == FAL_KEY


def test_the_same_under_comfyuis_other_prefix(keyless: ComfyUI) -> None:
    forged = _post(keyless, f"/api{KEY}", {"key": FAL_KEY}, X_Forwarded_For="203.0.113.7")
    assert forged.status_code == 403
    assert _post(keyless, f"/api{KEY}", {"key": FAL_KEY}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_there_is_no_other_way_to_the_key(keyless: ComfyUI, method: str) -> None:
    answer = requests.request(method, keyless.url + KEY, headers=JSON, data="{}", timeout=30)
    assert answer.status_code == 405


def test_what_is_refused_elsewhere_is_said_to_be_closed(keyless: ComfyUI) -> None:
    for headers in ({"Host": EVIL}, {"X_Forwarded_For": "203.0.113.7"}):
        assert _status(keyless, **headers) == {"source": "none", "writable": False}


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]", "127.0.0.2"])
def test_a_page_opened_at_any_name_of_this_computer_may_set_it(keyless: ComfyUI, name: str) -> None:
    host = f"{name}:{keyless.port}"
    origin = f"http://{host.lower()}"
    answer = _post(
        keyless, KEY, {"key": FAL_KEY}, Host=host, Origin=origin, Sec_Fetch_Site="same-origin"
    )
    assert answer.status_code == 200
    assert _key_file(keyless).read_text().strip() == FAL_KEY


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b"[" * 4096, 400),
        (b"[]", 400),
        (b'"some:other"', 400),
        ({}, 400),
        ({"key": 7}, 400),
        ({"key": None}, 400),
        ({"key": ["some:other"]}, 400),
        ({"key": "k" * 5000}, 413),
        (b" " * 4097, 413),
        (b" " * 10_000_000, 413),
        ({"key": ""}, 409),
        ({"key": " \n"}, 409),
        ({"key": "k" * 2049}, 409),
        ({"key": "some:other\nX-Evil: 1"}, 409),
        ({"key": "some:\r\nother"}, 409),
        ({"key": "some:\x00other"}, 409),
        ({"key": "some:\x7fother"}, 409),
        ({"key": "two words"}, 409),
        ({"key": "sch\u00f6n:other"}, 409),
        (b'{"key": "some:\\ud800other"}', 409),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_a_key_changes_nothing_and_is_not_repeated(
    keyless: ComfyUI, body: Any, status: int
) -> None:
    _write_key(keyless)
    answer = _post(keyless, KEY, body)
    assert answer.status_code == status
    (words,) = answer.json().values()
    assert "other" not in words
    assert _key_file(keyless).read_text() == FAL_KEY
    assert [file.name for file in _key_file(keyless).parent.glob("*.part")] == []


def test_a_comfyui_that_others_can_reach_takes_no_key(fal: FalServer, tmp_path: Path) -> None:
    """What else lets others in is told apart in tests/unit/test_guarding.py."""
    with _without_key(tmp_path, fal.port, "--listen", "0.0.0.0") as reachable:
        assert _status(reachable) == {"source": "none", "writable": False}
        answer = _post(reachable, KEY, {"key": FAL_KEY})
        assert answer.status_code == 403
        assert REMOTE in answer.json()["error"]
        assert not _key_file(reachable).exists()
        _write_key(reachable)
        assert [_post(reachable, route, {}).status_code for route in (REMOVE, TEST)] == [403, 403]
        assert _key_file(reachable).exists()
        assert fal.requests == []
        assert requests.get(
            f"{reachable.url}/firered/jobs", headers={"X-FireRed": "1"}, timeout=30
        ).ok
