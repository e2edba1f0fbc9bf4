"""Whom the routes of the fal key take for a page on this computer, one doubt at a time.

On a running ComfyUI some of these are caught by its own checks before ours are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from support.inside import bridge

HERE = {"Host": "127.0.0.1:8188"}
PAGE = HERE | {"Origin": "http://127.0.0.1:8188", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def guarding(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard, of a ComfyUI as it starts without options."""
    bridge()
    from firered_edit.nodes.host.routes import guarding

    options = SimpleNamespace(listen="127.0.0.1", enable_cors_header=None)
    monkeypatch.setattr(guarding, "args", options)
    return guarding


def _request(
    headers: Mapping[str, str] = PAGE, peer: object = ("127.0.0.1", 50_000), **more: str
) -> Any:
    together = CIMultiDict(headers)
    for name, value in more.items():
        together.add(name.replace("_", "-"), value)
    request = make_mocked_request("POST", "/firered/key", headers=together)
    request.transport.get_extra_info = {"peername": peer}.get
    return request


@pytest.mark.parametrize(
    "headers",
    [
        PAGE,
        HERE,
        HERE | {"Sec-Fetch-Site": "none"},
        {"Host": "localhost", "Origin": "http://localhost"},
        {"Host": "LOCALHOST:80", "Origin": "http://localhost:80"},
        {"Host": "[::1]:8188", "Origin": "http://[::1]:8188"},
        {"Host": "127.8.0.1", "Origin": "https://127.8.0.1"},
    ],
    ids=str,
)
def test_a_page_on_this_computer_passes(guarding: Any, headers: Mapping[str, str]) -> None:
    assert guarding.is_local(_request(headers))
    guarding.check_local(_request(headers))


def test_the_same_over_ipv6(guarding: Any) -> None:
    assert guarding.is_local(_request(peer=("::1", 50_000, 0, 0)))


@pytest.mark.parametrize(
    "peer",
    [("192.168.1.7", 1), ("10.0.0.1", 1), ("8.8.8.8", 1), ("fe80::1", 1, 0, 3), ("", 0), "", None],
    ids=str,
)
def test_another_computer_does_not(guarding: Any, peer: object) -> None:
    assert not guarding.is_local(_request(peer=peer))
    with pytest.raises(guarding.Refused, match="set FAL_KEY in its environment") as caught:
        guarding.check_local(_request(peer=peer))
    assert caught.value.status == 403


def test_a_connection_that_is_gone_does_not(guarding: Any) -> None:
    request = _request()
    request._protocol.transport = None
    assert not guarding.is_local(request)


@pytest.mark.parametrize("listen", ["0.0.0.0", "0.0.0.0,::", "127.0.0.1, 192.168.1.7", "", "box"])
def test_a_comfyui_that_listens_to_others_does_not(
    guarding: Any, monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setattr(guarding.args, "listen", listen)
    assert not guarding.is_local(_request())


@pytest.mark.parametrize("listen", ["127.0.0.1,::1", "localhost", "127.0.0.1, ::1"])
def test_one_that_listens_here_alone_does(
    guarding: Any, monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setattr(guarding.args, "listen", listen)
    assert guarding.is_local(_request())


@pytest.mark.parametrize("allowed", ["*", "http://127.0.0.1:8188"])
def test_one_that_gives_other_sites_leave_does_not(
    guarding: Any, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setattr(guarding.args, "enable_cors_header", allowed)
    assert not guarding.is_local(_request())


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]
    + ["X-Forwarded-Server", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "x-FORWARDED-for"],
)
def test_what_comes_through_a_proxy_does_not(guarding: Any, name: str) -> None:
    for value in ("127.0.0.1", ""):
        assert not guarding.is_local(_request(PAGE | {name: value}))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost"]
    + ["evil@127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1/evil", "127.0.0.1?evil", "127.0.0.1#"]
    + ["127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "[::]", "::1", "[::1", "[::ffff:8.8.8.8]"]
    + ["127.0.0.1:", "127.0.0.1:evil", "127.0.0.1:99999", "127.0.0.1:08188", "", " ", ":8188"],
)
def test_a_name_that_is_not_ours_does_not(guarding: Any, host: str) -> None:
    # With the origin that a browser would send along, and without.
    assert not guarding.is_local(_request({"Host": host, "Origin": f"http://{host}"}))
    assert not guarding.is_local(_request({"Host": host}))


@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1", "http://127.0.0.1:1", "http://localhost:8188", "http://evil.example:8188"]
    + ["null", "", "file://127.0.0.1:8188", "127.0.0.1:8188", "http://[", "ftp://127.0.0.1:8188"]
    + ["http://evil@127.0.0.1:8188", "http://127.0.0.1:8188.evil.example"],
)
def test_a_page_of_another_origin_does_not(guarding: Any, origin: str) -> None:
    assert not guarding.is_local(_request(HERE | {"Origin": origin}))


@pytest.mark.parametrize(
    "site", ["cross-site", "same-site", "", "Same-Origin", "same-origin, none"]
)
def test_what_the_browser_says_comes_from_elsewhere_does_not(guarding: Any, site: str) -> None:
    assert not guarding.is_local(_request(PAGE | {"Sec-Fetch-Site": site}))


@pytest.mark.parametrize(
    "again",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}]
    + [{"Host": "127.0.0.1:8188"}],
    ids=str,
)
def test_a_header_that_comes_twice_does_not(guarding: Any, again: dict[str, str]) -> None:
    assert not guarding.is_local(_request(PAGE, **again))


def test_a_request_without_a_host_does_not(guarding: Any) -> None:
    assert not guarding.is_local(_request({}))
