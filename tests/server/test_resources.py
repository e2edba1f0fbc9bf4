"""After many edits and many cancels a ComfyUI holds no more than before, and works as before."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests

from doubles.fal_server import FalServer
from support.comfyui import ComfyUI, running_comfyui
from support.orphans import data_folder
from support.resources import (
    ENGINES,
    MAX_GROWTH_BYTES,
    Footprint,
    cancel_storm,
    edited,
    in_limbo,
    left_behind,
    many_edits,
    workflow_of,
)
from support.server_fixtures import FAL_KEY, furnish

EDITS = 15
"""By each engine."""

CANCELS = 24

GET = ("/firered/key", "/firered/jobs", "/firered/cache")
POST = (
    *("/firered/key", "/firered/key/remove", "/firered/key/test"),
    *("/firered/jobs/collect", "/firered/jobs/give_up", "/firered/cache/clear"),
)
ROUTES = [*(("GET", path) for path in GET), *(("POST", path) for path in POST)]

OURS = {"X-FireRed": "1"}


@pytest.fixture(scope="module")
def fal() -> Iterator[FalServer]:
    with FalServer(key=FAL_KEY, cancellable=True) as server:
        yield server


@pytest.fixture(scope="module")
def open_to_all(fal: FalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI that listens to everyone, as on a rented machine."""
    base = furnish(tmp_path_factory.mktemp("open"))
    environ = {**fal.environment, "FAL_KEY": FAL_KEY}
    options = ("--cpu", "--listen", "0.0.0.0")
    with running_comfyui(base, environ=environ, options=options) as server:
        yield server


@pytest.mark.parametrize("engine", ENGINES)
def test_many_edits_leave_nothing_behind(open_to_all: ComfyUI, engine: str) -> None:
    warm, _, end = many_edits(open_to_all, engine, "many", EDITS)
    assert left_behind(warm, end) == []


def test_a_storm_of_cancels_leaves_a_working_server(open_to_all: ComfyUI, fal: FalServer) -> None:
    sound = {engine: workflow_of(engine, "as before", 7) for engine in ENGINES}
    before = {engine: edited(open_to_all, workflow) for engine, workflow in sound.items()}
    fal.run_seconds = 0.3
    try:
        storm = cancel_storm(open_to_all, "storm", CANCELS, random.Random(8))
    finally:
        fal.run_seconds = 0.0
    assert [end for end in storm.ends if "failed" in end] == []
    assert storm.ends["local cancelled"] > 0
    assert storm.ends["fal cancelled"] > 0
    assert in_limbo(open_to_all) == {}
    queue = open_to_all.get("/queue")
    assert (queue["queue_running"], queue["queue_pending"]) == ([], [])
    for engine, workflow in sound.items():
        assert np.array_equal(edited(open_to_all, workflow), before[engine])


def _ask(comfyui: ComfyUI, method: str, path: str, **headers: str) -> requests.Response:
    body = {"key": "0" * 64} if method == "POST" else None
    return requests.request(method, comfyui.url + path, json=body, headers=headers, timeout=30)


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_where_everyone_may_come_in_each_route_asks_for_the_packs_header(
    open_to_all: ComfyUI, method: str, path: str, prefix: str
) -> None:
    answer = _ask(open_to_all, method, prefix + path)
    assert answer.status_code == 403
    assert answer.json() == {"error": "The header X-FireRed is missing."}


def test_where_everyone_may_come_in_no_route_tells_or_takes_the_key(open_to_all: ComfyUI) -> None:
    private = data_folder(open_to_all.base)
    before = sorted(file.name for file in private.iterdir())
    for method, path in ROUTES:
        answer = _ask(open_to_all, method, path, **OURS)
        text = f"{answer.text} {dict(answer.headers)}"
        assert FAL_KEY.rpartition(":")[2] not in text
        assert str(open_to_all.base) not in text
        if method == "POST" and "key" in path:
            assert answer.status_code == 403
    assert _ask(open_to_all, "GET", "/firered/key", **OURS).json()["writable"] is False
    assert sorted(file.name for file in private.iterdir()) == before


def test_no_route_of_the_pack_is_left_out_here(open_to_all: ComfyUI) -> None:
    routes = Path("custom_nodes", "firered-edit", "nodes", "host", "routes", "__init__.py")
    source = (open_to_all.base / routes).read_text(encoding="utf-8")
    getters, _, posters = source.partition("POST = {")
    for known, text in ((GET, getters), (POST, posters)):
        assert sorted(re.findall(r'"(/firered/[a-z_/]+)":', text)) == sorted(known)


def test_what_was_left_behind_is_told() -> None:
    small = Footprint(10**9, 20, 2, ("a.log",), 0)
    assert left_behind(small, small) == []
    assert left_behind(small, replace(small, rss=10**9 + MAX_GROWTH_BYTES + 1))
    assert left_behind(small, replace(small, threads=21))
    assert left_behind(small, replace(small, connections=3))
    assert left_behind(small, replace(small, files=("a.log", "a.log")))
    assert left_behind(small, replace(small, temporary=1))
