"""The checks before a release, each on a repository that lacks what it looks for."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import release as command

from support import release
from support.registry import HANDED_OUT
from support.release import Candidate, NotReadyError

VERSION = "1.2.0"
TODAY = datetime.now(UTC).date()
CHANGELOG = f"# Changelog\n\n## [{VERSION}] - {TODAY}\n\n### Added\n\n- A thing.\n"
SCHEMA = {"FireRedEdit": {"input": {"required": {"prompt": ["STRING", {}]}}}}


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    """A repository in which everything is ready."""
    root = tmp_path / "repository"
    root.mkdir()
    candidate = Candidate(root, VERSION)
    _write(candidate, ".comfyignore", "tests/\n")
    for name in sorted(HANDED_OUT):
        _write(candidate, name if "." in name or name == "LICENSE" else f"{name}/file.py", "")
    _write(candidate, "pyproject.toml", f'[project]\nversion = "{VERSION}"\n')
    _write(candidate, release.REPORTED_IN, f'PACK_VERSION = "{VERSION}"\n')
    _write(candidate, "CHANGELOG.md", CHANGELOG)
    _write(candidate, release.SCHEMA, json.dumps(SCHEMA))
    for folder in (release.EXAMPLES, f"{release.RELEASED}/{VERSION}"):
        _write(candidate, f"{folder}/edit.json", "{}")
        _write(candidate, f"{folder}/api/edit.json", "{}")
    candidate.git("init", "--quiet", "--initial-branch", "main")
    candidate.git("config", "user.name", "Somebody")
    candidate.git("config", "user.email", "somebody@example.org")
    _commit(candidate)
    return candidate


def _write(candidate: Candidate, name: str, text: str) -> None:
    file = candidate.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _commit(candidate: Candidate, tag: str | None = None) -> None:
    candidate.git("add", "--all")
    candidate.git("commit", "--quiet", "--allow-empty", "--no-verify", "--message", "work")
    if tag:
        candidate.git("tag", tag)


def _pack(checkout: Path) -> Path:
    """Stands in for ``comfy node pack``, which takes a minute to install."""
    listed = ["git", "ls-files", "-z"]
    names = subprocess.run(listed, cwd=checkout, capture_output=True, check=True, text=True).stdout
    ignored = tuple((checkout / ".comfyignore").read_text().split())
    packed = checkout / "node.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        for name in filter(None, names.split("\0")):
            if not name.startswith((*ignored, ".comfyignore")):
                opened.write(checkout / name, name)
    return packed


ARCHIVE = partial(release.archive, pack=_pack)
QUICK = {**release.CHECKS, "archive": ARCHIVE}


def test_what_is_ready_passes_and_the_next_steps_are_said(
    candidate: Candidate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.judge(candidate, QUICK) == 0
    said = capsys.readouterr().out
    assert [line.split()[:2] for line in said.splitlines()[: len(QUICK)]] == [
        ["ok", name] for name in QUICK
    ]
    assert f"git tag --annotate v{VERSION}" in said


def test_a_failure_is_said_with_its_remedy_and_the_others_go_on(
    candidate: Candidate, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(candidate, "notes.txt", "")
    assert command.judge(candidate, QUICK) == 1
    said = capsys.readouterr().out
    assert "FAILED  clean      Not committed: notes.txt. Commit it, or put it away." in said
    assert "FAILED  archive    In the archive notes.txt does not belong there." in said
    assert said.count("\nok ") + said.startswith("ok ") == len(QUICK) - 2
    assert said.endswith(f"{VERSION} is not ready: clean, archive.\n")


def _fails(check: Callable[[Candidate], str], candidate: Candidate, problem: str) -> None:
    with pytest.raises(NotReadyError, match=problem) as caught:
        check(candidate)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("pyproject.toml", '[project]\nversion = "1.1.0"\n', r"pyproject\.toml says 1\.1\.0"),
        (release.REPORTED_IN, 'PACK_VERSION = "1.1.0"\n', r"request\.py says 1\.1\.0"),
        (release.REPORTED_IN, "", r"request\.py says nothing"),
    ],
)
def test_another_version_fails(candidate: Candidate, file: str, text: str, problem: str) -> None:
    _write(candidate, file, text)
    _fails(release.version, candidate, problem)


@pytest.mark.parametrize("asked", ["v1.2.0", "1.2", "latest", ""])
def test_what_is_no_version_fails(candidate: Candidate, asked: str) -> None:
    _fails(release.version, Candidate(candidate.root, asked), "is no version")


@pytest.mark.parametrize("earlier", ["v1.1.9", "v0.10.0", "v1.1.10"])
def test_a_later_version_passes(candidate: Candidate, earlier: str) -> None:
    candidate.git("tag", earlier)
    assert VERSION in release.version(candidate)


@pytest.mark.parametrize("later", ["v1.10.0", "v2.0.0", "v1.2.1"])
def test_a_version_that_is_not_later_fails(candidate: Candidate, later: str) -> None:
    candidate.git("tag", later)
    candidate.git("tag", "v1.1.0")
    candidate.git("tag", "vnext")
    _fails(release.version, candidate, f"{later} is not earlier")


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (CHANGELOG.replace(f"[{VERSION}] - {TODAY}", "[Unreleased]"), r"is \[Unreleased\]"),
        (f"## [Unreleased]\n\n- More.\n\n{CHANGELOG}", r"is \[Unreleased\]"),
        (CHANGELOG.replace(VERSION, "1.1.0"), r"is \[1\.1\.0\]"),
        ("# Changelog\n", "is missing"),
        (CHANGELOG.replace(f" - {TODAY}", ""), "date is None"),
        (CHANGELOG.replace(str(TODAY), "2026-13-01"), "date is 2026-13-01"),
        (CHANGELOG.replace(str(TODAY), str(TODAY + timedelta(days=2))), "date is"),
        (CHANGELOG.replace("- A thing.", ""), "is empty"),
        (f"## [{VERSION}] - {TODAY}\n\n## [1.1.0] - 2026-01-01\n\n- Old.\n", "is empty"),
    ],
)
def test_a_changelog_that_is_not_ready_fails(candidate: Candidate, log: str, problem: str) -> None:
    _write(candidate, "CHANGELOG.md", log)
    _fails(release.changelog, candidate, problem)


RENAMED = {"FireRedEdit": {"input": {"required": {"text": ["STRING", {}]}}}}
SECOND = {**SCHEMA, "FireRedOther": {}}


@pytest.mark.parametrize(
    ("changed", "node"),
    [(RENAMED, "FireRedEdit"), (SECOND, "FireRedOther"), ({}, "FireRedEdit")],
)
def test_a_changed_schema_needs_a_migration(
    candidate: Candidate, changed: dict[str, object], node: str
) -> None:
    candidate.git("tag", "v1.1.0")
    _write(candidate, release.SCHEMA, json.dumps(changed))
    _fails(release.schema, candidate, f"Since v1.1.0 these have changed: {node}")
    _write(candidate, "CHANGELOG.md", f"{CHANGELOG}\n{release.MIGRATION}\n\n- Open them once.\n")
    assert "with a migration" in release.schema(candidate)


def test_a_migration_of_an_earlier_release_does_not_count(candidate: Candidate) -> None:
    candidate.git("tag", "v1.1.0")
    _write(candidate, release.SCHEMA, json.dumps(RENAMED))
    earlier = f"\n## [1.1.0] - 2026-01-01\n\n{release.MIGRATION}\n\n- Open them once.\n"
    _write(candidate, "CHANGELOG.md", CHANGELOG + earlier)
    _fails(release.schema, candidate, "these have changed")


def test_another_order_of_inputs_is_a_change(candidate: Candidate) -> None:
    two = {"FireRedEdit": {"a": 1, "b": 2}}
    _write(candidate, release.SCHEMA, json.dumps(two))
    _commit(candidate, "v1.1.0")
    _write(candidate, release.SCHEMA, json.dumps({"FireRedEdit": {"b": 2, "a": 1}}))
    _fails(release.schema, candidate, "FireRedEdit")


def test_the_schema_is_compared_with_the_newest_release(candidate: Candidate) -> None:
    candidate.git("tag", "v0.9.0")
    _write(candidate, release.SCHEMA, json.dumps(RENAMED))
    _commit(candidate, "v0.10.0")
    assert release.schema(candidate) == "as in v0.10.0"


@pytest.mark.parametrize("name", ["edit.json", "api/edit.json", "another.json"])
def test_workflows_that_are_not_kept_fail(candidate: Candidate, name: str) -> None:
    _write(candidate, f"{release.EXAMPLES}/{name}", '{"new": 1}')
    _fails(release.workflows, candidate, "does not hold the examples as they are")


def test_a_workflow_of_an_earlier_release_that_was_changed_fails(candidate: Candidate) -> None:
    _write(candidate, f"{release.RELEASED}/1.1.0/edit.json", "{}")
    _commit(candidate, "v1.1.0")
    assert release.workflows(candidate)
    _write(candidate, f"{release.RELEASED}/1.1.0/edit.json", '{"mended": 1}')
    _fails(release.workflows, candidate, "is not as in v1.1.0")


def test_a_tag_that_is_there_fails(candidate: Candidate) -> None:
    candidate.git("tag", f"v{VERSION}")
    _fails(release.tag, candidate, f"v{VERSION} is there already")


@pytest.mark.parametrize("name", ["new.txt", "CHANGELOG.md"])
def test_what_is_not_committed_fails(candidate: Candidate, name: str) -> None:
    _write(candidate, name, "changed")
    _fails(release.clean, candidate, f"Not committed: {name}")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("notes.txt", "", r"notes\.txt does not belong there"),
        ("nodes/weights.bin", "", r"nodes/weights\.bin is of no kind"),
        ("web/large.js", " " * 200_001, r"web/large\.js has 200001 bytes"),
        (".comfyignore", "tests/\nlocales/\n", "locales is missing"),
    ],
)
def test_an_archive_of_something_else_fails(
    candidate: Candidate, name: str, text: str, problem: str
) -> None:
    _write(candidate, name, text)
    _fails(ARCHIVE, candidate, problem)


MAKER = "from pathlib import Path\nPath('locales/file.json').write_text('{text}')\n"


@pytest.fixture
def makers(candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """``candidate`` with a command that makes what is committed."""
    monkeypatch.setattr(release, "MAKERS", ("tests/make.py",))
    _write(candidate, "tests/make.py", MAKER.format(text="new"))
    _write(candidate, "locales/file.json", "new")
    _commit(candidate)
    return candidate


def test_what_is_made_anew_and_the_same_passes(makers: Candidate) -> None:
    assert "up to date" in release.made(makers)


def test_what_is_made_anew_and_differs_fails(makers: Candidate) -> None:
    _write(makers, "locales/file.json", "old")
    _commit(makers)
    _fails(release.made, makers, r"out of date: locales/file\.json")
    assert (makers.root / "locales/file.json").read_text() == "old"


def test_a_maker_that_fails_is_named(makers: Candidate) -> None:
    _write(makers, "tests/make.py", "raise SystemExit('no page')")
    _commit(makers)
    with pytest.raises(NotReadyError, match=r"tests/make\.py fails") as caught:
        release.made(makers)
    assert "no page" in caught.value.remedy
