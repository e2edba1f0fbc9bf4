"""SECURITY.md against the code: what it promises is so, and nothing is left out."""

from __future__ import annotations

import ast
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firered_edit.pipeline.fal import keys
from firered_edit.pipeline.fal.journal import tidying
from firered_edit.pipeline.fal.journal.journal import Journal
from firered_edit.pipeline.fal.protocol import hosts
from firered_edit.pipeline.fal.uploads import storage
from firered_edit.pipeline.fal.uploads.sending import INLINE_LIMIT
from firered_edit.pipeline.host import RemoteSettings
from support.inside import bridge
from support.pack import ROOT, python_files

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LEAVES = "What leaves the machine, and when"
HUB = "huggingface.co"
"""Its own library knows it."""

KEPT = "What is stored where, and for how long"


def _section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def _constants(file: Path) -> Iterator[str]:
    """The texts of a file that are not there to explain it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node.value


# Routes -------------------------------------------------------------------------------------------


class _Table:
    """Stands in for the routes of ComfyUI's server, and writes down what is added."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def get(self, path: str) -> Any:
        return lambda handler: self.added.append(f"GET {path}")

    def post(self, path: str) -> Any:
        return lambda handler: self.added.append(f"POST {path}")


@pytest.fixture
def routes() -> Any:
    bridge()
    from firered_edit.nodes.host import routes

    return routes


def _rows() -> dict[str, str]:
    """Each route of the page, and who may use it."""
    return dict(re.findall(r"^\| `(\w+ /\S+)` \|.*\| (.+?) \|$", _section("Routes"), re.MULTILINE))


def test_the_page_lists_every_route_and_no_other(
    routes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _Table()
    monkeypatch.setattr(
        routes, "PromptServer", SimpleNamespace(instance=SimpleNamespace(routes=table))
    )
    routes.register()
    assert sorted(_rows()) == sorted(table.added)


def test_no_other_file_adds_a_route() -> None:
    adding = re.compile(r"\.routes\b|\.add_(?:get|post|route|static)\(|@routes\.")
    found = [file for file in python_files() if adding.search(file.read_text(encoding="utf-8"))]
    assert found == [ROOT / "nodes" / "host" / "routes" / "__init__.py"]


def test_the_page_says_who_may_use_a_route(routes: Any) -> None:
    """Those for this computer alone make the check themselves."""
    for row, who in _rows().items():
        method, path = row.split()
        work = (routes.GET if method == "GET" else routes.POST)[path]
        checks = "check_local" in work.__code__.co_names
        assert checks == (who == "this computer alone"), row


def test_the_page_says_what_a_request_must_have(routes: Any) -> None:
    from firered_edit.nodes.host.routes.answering import HEADER, MAX_BODY

    assert f"`{HEADER}: 1`" in _section("Routes")
    assert f"at most {MAX_BODY} bytes" in _section("Routes")


# Hosts and variables ------------------------------------------------------------------------------


def test_the_page_names_every_host_of_the_code() -> None:
    named = set(re.findall(r"`([a-z0-9-]+(?:\.[a-z0-9-]+)+)`", _section(LEAVES)))
    bases = (hosts._DEFAULT_QUEUE, hosts._DEFAULT_REST, hosts._DEFAULT_API)
    allowed = {base.removeprefix("https://") for base in bases} | {*hosts._DOMAINS, HUB}
    assert named == allowed


def test_no_other_file_names_a_host_to_ask() -> None:
    found = {file.name for file in python_files() for text in _constants(file) if "://" in text}
    # The second only says how a session goes to either scheme.
    assert found == {"hosts.py", "transport.py"}


def test_the_page_names_every_variable_that_is_read() -> None:
    reading = [file for file in python_files() if "environ" in file.read_text(encoding="utf-8")]
    texts = {text for file in reading for text in _constants(file)}
    read = {text for text in texts if re.fullmatch(r"[A-Z]+(?:_[A-Z]+)+|LOCALAPPDATA", text)}
    table = _section("Environment variables").partition("\n\nThe two hosts")[0]
    assert set(re.findall(r"`([A-Z_]+)`", table)) == read
    assert "FAL_KEY" in read


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """The private folder after a key was set and a picture kept."""
    folder = tmp_path / "__firered"
    keys.save_key(folder, "a-key-that-is-none")
    journal = Journal(folder)
    journal.results.store("ab" * 32, 0, b"\x89PNG")
    yield folder
    journal.owners.close()
    journal.database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_files_are_their_users_alone(data_folder: Path) -> None:
    files = [file for file in data_folder.rglob("*") if file.is_file()]
    assert len(files) >= 4
    assert {_mode(file) for file in files} == {0o600}
    assert _mode(data_folder) == 0o700
    assert "the mode 0700, every file in it 0600" in PAGE


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_the_page_names_everything_that_is_kept(data_folder: Path) -> None:
    stored = _section(KEPT)
    named = set(re.findall(r"^\| `([\w.]+)/?`", stored, re.MULTILINE))
    # sqlite's own files beside the journal are the journal.
    made = {file.name.removesuffix("-wal").removesuffix("-shm") for file in data_folder.iterdir()}
    assert named == made


def test_the_page_says_for_how_long_things_are_kept() -> None:
    stored = _section(KEPT)
    default = RemoteSettings()
    for fact in (
        f"| {tidying.MAX_AGE_S / tidying.DAY_S:.0f} days after",
        f"| {tidying.MAX_AGE_S / tidying.DAY_S:.0f} days, up to {tidying.MAX_BYTES // 2**30} GB",
        f"| {tidying.MAX_BILL_AGE_S / tidying.DAY_S:.0f} days",
    ):
        assert fact in stored
    assert default.upload_lifetime_s == tidying.DAY_S
    assert "for a day" in stored
    assert storage.MARGIN_S == 3600
    assert "an hour before" in stored
    assert f"over {INLINE_LIMIT // 2**20} MB" in PAGE


def test_the_page_says_how_long_uploads_may_be_set_to_live(routes: Any) -> None:
    from firered_edit.nodes.host.settings import UPLOAD_HOURS

    assert f"{UPLOAD_HOURS[0]} hour to {UPLOAD_HOURS[1] // 24} days" in PAGE


def test_the_key_file_has_its_name() -> None:
    assert f"`{keys.KEY_FILE}`" in _section("The fal key")


# Reports ------------------------------------------------------------------------------------------


def test_reports_go_to_this_repository() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    repository = re.search(r'^Repository = "(.+)"$', pyproject, re.MULTILINE)
    assert repository is not None
    assert f"({repository[1]}/security/advisories/new)" in _section("Report a hole")
