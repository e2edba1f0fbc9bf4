"""The bridge's side of collecting, looked at closely: what it leaves alone, and full disks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from support.comfyui import wait_until
from support.fal_fixtures import forget
from support.inside import bridge
from support.kinds import MakePhoto
from support.orphans import Orphan, leave_finished


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """``collecting`` of the bridge in this process, its folders under ``tmp_path``."""
    bridge()
    import folder_paths

    from firered_edit.nodes.host import collecting

    (tmp_path / "output").mkdir()
    monkeypatch.setenv("FIRERED_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    yield collecting
    forget()


def test_where_the_folder_is_full_nothing_is_left_half_saved_and_the_edit_waits_on(
    inside: Any, monkeypatch: pytest.MonkeyPatch, photo: MakePhoto, tmp_path: Path
) -> None:
    orphan = Orphan("no room", seed=6)
    leave_finished(tmp_path / "data", orphan, [photo(20, 20), photo(20, 20)])
    calls = iter([None, OSError(28, "No space left on device")])

    def full(descriptor: int) -> None:
        if problem := next(calls):
            raise problem

    monkeypatch.setattr(inside.os, "fsync", full)
    with pytest.raises(inside.SetupError, match="No space left") as caught:
        inside.collect(orphan.key)
    assert str(tmp_path) not in str(caught.value)
    assert list((tmp_path / "output").iterdir()) == []
    assert [job["key"] for job in inside.waiting_jobs()["jobs"] if job["ready"]] == [orphan.key]


def test_where_no_edit_was_ever_ordered_nothing_is_imported_or_written(
    inside: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from firered_edit.nodes.host import keeping

    for module in ("backlog", "collecting", "journal"):
        monkeypatch.setitem(sys.modules, f"firered_edit.pipeline.fal.{module}", None)
    started: list[object] = []
    monkeypatch.setattr(inside, "Timer", lambda *a: started.append(a))
    inside.follow_at_start()
    assert inside.waiting_jobs() == {"jobs": [], "spent_today": 0.0}
    assert (
        keeping.room()
        == keeping.clear()
        == {name: {"count": 0, "bytes": 0} for name in ("delivered", "waiting", "records")}
    )
    for work in (inside.collect, inside.give_up):
        with pytest.raises(inside.InputError):
            work("0" * 64)
    assert started == []
    assert not (tmp_path / "data").exists()


def test_a_missing_package_is_named_and_does_not_break_the_start(
    inside: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").touch()
    from firered_edit.nodes.host import keeping

    for module in ("backlog", "collecting", "journal"):
        monkeypatch.setitem(sys.modules, f"firered_edit.pipeline.fal.{module}", None)
    for work in (inside.waiting_jobs, keeping.room, keeping.clear):
        with pytest.raises(inside.MissingPackageError, match="is not installed"):
            work()
    monkeypatch.setattr(inside, "START_AFTER_S", 0.0)
    with caplog.at_level("INFO", inside.logger.name):
        inside.follow_at_start()
        wait_until(lambda: "edits left at fal are not followed" in caplog.text)


def test_routes_are_registered_once_and_not_without_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge()
    from firered_edit.nodes.host import routes

    monkeypatch.delattr(routes.PromptServer, "instance", raising=False)
    routes.register()

    server = SimpleNamespace(routes=web.RouteTableDef())
    monkeypatch.setattr(routes.PromptServer, "instance", server, raising=False)
    routes.register()
    routes.register()
    assert [(route.method, route.path) for route in server.routes] == [
        ("GET", "/firered/jobs"),
        ("GET", "/firered/cache"),
        ("GET", "/firered/key"),
        ("POST", "/firered/jobs/collect"),
        ("POST", "/firered/jobs/give_up"),
        ("POST", "/firered/cache/clear"),
        ("POST", "/firered/key"),
        ("POST", "/firered/key/remove"),
        ("POST", "/firered/key/test"),
    ]
