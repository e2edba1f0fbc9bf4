"""What must hold before a version is released, one check at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

from support.comfyui import comfyui_source
from support.registry import check_out, faults_of, install_comfy, pack_up

SCHEMA = "tests/server/object_info.json"
EXAMPLES = "example_workflows"
RELEASED = "tests/released"
"""By version, the example workflows it was released with: tests load and run all of them."""
REPORTED_IN = "pipeline/request.py"
MIGRATION = "### Migration"

MAKERS = ("tests/make_locales.py", "tests/make_examples.py")
"""Each in ComfyUI, or on its page: minutes."""

MADE = ("locales/*.json", "example_workflows/*.json", "subgraphs/*.json")
"""Pictures of the page are not the same twice."""

_ENTRY = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class NotReadyError(Exception):
    """What is wrong, and what to do next."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True)
class Candidate:
    """The repository in ``root``, about to be released as ``version``."""

    root: Path
    version: str

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def read(self, name: str) -> str:
        try:
            return (self.root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotReadyError(f"{name} is not there.", "Run this in a clone.") from None

    def git(self, *words: str) -> str:
        """What git says; it must go well."""
        return subprocess.run(
            ["git", *words], cwd=self.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def last_tag(self) -> str | None:
        """The newest release that this one comes after."""
        tags = self.git("tag", "--list", "v*", "--merged", "HEAD").split()
        releases = [tag for tag in tags if _VERSION.fullmatch(tag[1:]) and tag != self.tag]
        return max(releases, key=lambda tag: _numbers(tag[1:]), default=None)


Check: TypeAlias = Callable[[Candidate], str]
"""Raises ``NotReadyError``; says what was found where all is well."""


def version(candidate: Candidate) -> str:
    """The version is the same everywhere, and later than the last one."""
    wanted = candidate.version
    if not _VERSION.fullmatch(wanted):
        raise NotReadyError(f"{wanted} is no version.", "Name one such as 1.2.3.")
    stated = tomllib.loads(candidate.read("pyproject.toml"))["project"]["version"]
    if stated != wanted:
        raise NotReadyError(f"pyproject.toml says {stated}.", f"Write {wanted} there.")
    found = re.search(r'^PACK_VERSION = "(.+)"$', candidate.read(REPORTED_IN), re.MULTILINE)
    if found is None or found[1] != wanted:
        says = found[1] if found else "nothing"
        raise NotReadyError(f"{REPORTED_IN} says {says}.", f"Write {wanted} there.")
    last = candidate.last_tag()
    if last and _numbers(last[1:]) >= _numbers(wanted):
        raise NotReadyError(f"{last} is not earlier.", "Choose the next version.")
    return f"{wanted} in pyproject.toml and {REPORTED_IN}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def changelog(candidate: Candidate) -> str:
    """The newest entry is this version's, dated, and says something."""
    wanted = f"## [{candidate.version}] - {_today()}"
    entry = _ENTRY.search(candidate.read("CHANGELOG.md"))
    if entry is None or entry[1] != candidate.version:
        newest = f"[{entry[1]}]" if entry else "missing"
        raise NotReadyError(f"The newest entry is {newest}.", f'Head it "{wanted}".')
    if not _is_past(entry[2]):
        raise NotReadyError(f"Its date is {entry[2]}.", f'Head it "{wanted}".')
    if "\n- " not in _news(candidate):
        raise NotReadyError("Its entry is empty.", "Say there what artists will notice.")
    return f"{candidate.version} of {entry[2]}"


def _today() -> date:
    return datetime.now(UTC).date()


def _is_past(written: str | None) -> bool:
    try:
        return date.fromisoformat(written or "") <= _today()
    except ValueError:
        return False


def _news(candidate: Candidate) -> str:
    """The newest entry of the changelog."""
    log = candidate.read("CHANGELOG.md")
    heads = [entry.start() for entry in _ENTRY.finditer(log)]
    return log[slice(*[*heads, len(log), len(log)][:2])]


def schema(candidate: Candidate) -> str:
    """Nodes are as in the last release, or the changelog says what becomes of workflows."""
    last = candidate.last_tag()
    if last is None:
        return "no release to compare with"
    changed = _changed_nodes(candidate, last)
    if not changed:
        return f"as in {last}"
    if MIGRATION not in _news(candidate):
        raise NotReadyError(
            f"Since {last} these have changed: {', '.join(changed)}.",
            f'Say under "{MIGRATION}" in the changelog what becomes of saved workflows.',
        )
    return f"changed since {last}, with a migration: {', '.join(changed)}"


def _changed_nodes(candidate: Candidate, since: str) -> list[str]:
    now = json.loads(candidate.read(SCHEMA))
    then = json.loads(candidate.git("show", f"{since}:{SCHEMA}"))
    return [node for node in sorted({*now, *then}) if _frozen(now, node) != _frozen(then, node)]


def _frozen(nodes: dict[str, object], node: str) -> str:
    # Not sorted: the order of inputs is part of what workflows rely on.
    return json.dumps(nodes.get(node))


def workflows(candidate: Candidate) -> str:
    """The workflows of this version are kept for all later ones, and earlier ones are untouched."""
    last = candidate.last_tag()
    if last and candidate.git("diff", "--name-only", "--diff-filter=MDR", last, "--", RELEASED):
        raise NotReadyError(f"{RELEASED} is not as in {last}.", "Restore what was changed.")
    examples, kept = candidate.root / EXAMPLES, candidate.root / RELEASED / candidate.version
    now, then = _texts(examples), _texts(kept)
    if now != then:
        raise NotReadyError(
            f"{RELEASED}/{candidate.version} does not hold the examples as they are.",
            f"Copy the JSON files of {EXAMPLES} there.",
        )
    return f"{len(now)} files in {RELEASED}/{candidate.version}"


def _texts(folder: Path) -> dict[str, str]:
    """All JSON files under ``folder``."""
    files = sorted(folder.rglob("*.json"))
    return {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in files}


def tag(candidate: Candidate) -> str:
    """Nothing was released under this version."""
    if candidate.git("tag", "--list", candidate.tag):
        raise NotReadyError(f"{candidate.tag} is there already.", "Choose the next version.")
    return f"{candidate.tag} is free"


def clean(candidate: Candidate) -> str:
    """What was checked is what is committed."""
    changed = candidate.git("status", "--porcelain").splitlines()
    if changed:
        names = ", ".join(line[2:].strip() for line in changed[:3])
        more = " and more" if len(changed) > 3 else ""
        raise NotReadyError(f"Not committed: {names}{more}.", "Commit it, or put it away.")
    return f"all of {candidate.git('rev-parse', '--short', 'HEAD')}"


def archive(candidate: Candidate, pack: Callable[[Path], Path] | None = None) -> str:
    """``comfy node pack`` puts in what artists need and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        checkout.mkdir()
        check_out(candidate.root, checkout)
        packed = (pack or _packed_by_comfy)(checkout)
        faults = faults_of(packed)
        if faults:
            raise NotReadyError(
                f"In the archive {'; '.join(faults[:3])}.",
                "Mend .comfyignore, or HANDED_OUT in tests/support/registry.py.",
            )
        return f"{packed.stat().st_size / 1e6:.1f} MB"


def _packed_by_comfy(checkout: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        return pack_up(install_comfy(Path(folder)), checkout)


def made(candidate: Candidate) -> str:
    """What commands make of the code is what lies in the repository."""
    with _copy(candidate) as copy:
        for maker in MAKERS:
            _make(copy, maker)
        changed = copy.git("diff", "--name-only", "--", *MADE).splitlines()
    if changed:
        raise NotReadyError(
            f"These are out of date: {', '.join(changed)}.",
            f"Run {' and '.join(MAKERS)}, look at the pictures, and commit them.",
        )
    return f"{', '.join(MADE)} are up to date"


def _make(copy: Candidate, maker: str) -> None:
    done = subprocess.run(
        [sys.executable, maker],
        cwd=copy.root,
        env={**os.environ, "COMFYUI_PATH": str(comfyui_source())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotReadyError(f"{maker} fails.", f"Run it: {_last_line(done.stderr)}")


@contextmanager
def _copy(candidate: Candidate) -> Iterator[Candidate]:
    """What is committed, elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        candidate.git("clone", "--quiet", "--no-hardlinks", str(candidate.root), folder)
        yield Candidate(Path(folder), candidate.version)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]


CHECKS: dict[str, Check] = {
    "version": version,
    "changelog": changelog,
    "schema": schema,
    "workflows": workflows,
    "tag": tag,
    "clean": clean,
    "archive": archive,
}

SLOW: dict[str, Check] = {"made": made}
