"""What can be told from the files alone: what the code must not be able to do, links, workflows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from support.forbidden import found_in
from support.links import broken_links
from support.pack import ROOT, python_files

# The pack -----------------------------------------------------------------------------------------


def test_the_pack_starts_no_program_and_runs_no_data() -> None:
    found = {
        file.relative_to(ROOT): found_in(file.read_text(encoding="utf-8"))
        for file in python_files()
    }
    assert len(found) > 100
    assert {file: what for file, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess",
        "import subprocess as quietly",
        "from subprocess import run",
        "import pickle",
        "from pickle import loads",
        "import marshal",
        "import shelve",
        "import ctypes",
        "import ctypes.util",
        "from urllib import request",
        "import urllib.request",
        "import socket",
        "def late():\n    import pickle",
        "eval('1')",
        "run = exec",
        "compile('1', 'file', 'eval')",
        "__import__('os')",
        "import builtins\nbuiltins.eval('1')",
        "import os\nos.system('ls')",
        "from os import system",
        "import os as o\no.popen('ls')",
        "import os\nos.execv('/bin/sh', [])",
        "import torch\ntorch.load('file')",
        "from torch import load as read",
        "import torch\ntorch.hub.load('repository', 'model')",
        "import numpy as np\nnp.load('file', allow_pickle=True)",
        "model.from_pretrained('file', trust_remote_code=True)",
        "load_torch_file('file', safe_load=False)",
        "session.get('https://fal.run', verify=False)",
        "session.get('https://fal.run', verify=chosen)",
    ],
)
def test_the_check_finds_it(line: str) -> None:
    assert len(found_in(line)) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "import torch\ntorch.compile(model)",
        "import re\nre.compile('a')",
        "model.eval()",
        "from socket import gaierror",
        "from urllib.parse import urlsplit",
        "import numpy as np\nnp.load('file', allow_pickle=False)",
        "import os\nos.path.exists('a')",
        "from . import pickle",
        "code = status.code",
    ],
)
def test_the_check_leaves_in_peace(line: str) -> None:
    assert found_in(line) == []


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("S102", "exec('1')"),
        ("S113", "import requests\n\nrequests.get('https://fal.run')"),
        ("S301", "import pickle\n\npickle.loads(b'')"),
        ("S307", "eval('1')"),
        ("S324", "import hashlib\n\nhashlib.md5(b'')"),
        ("S501", "import requests\n\nrequests.get('https://fal.run', timeout=1, verify=False)"),
        ("S603", "import subprocess\n\nsubprocess.run(['ls', name])"),
        ("S608", "db.execute(f'SELECT * FROM {table}')"),
        ("BLE001", "try:\n    work()\nexcept Exception:\n    rest()"),
        ("T201", "print('here')"),
        ("C901", "def many(n: int) -> None:\n" + "    if n:\n        n += 1\n" * 10),
        ("ERA001", "# work(again)"),
    ],
)
def test_the_linter_finds_it_in_the_pack(rule: str, line: str) -> None:
    assert rule in _linted(f"{line}\n", "pipeline/new.py")


def test_what_the_journal_may_do_no_other_room_may() -> None:
    statement = "db.execute(f'SELECT {names} FROM jobs')\n"
    assert "S608" not in _linted(statement, "pipeline/fal/journal/new.py")
    assert "S608" in _linted(statement, "pipeline/fal/new.py")


def _linted(source: str, name: str) -> list[str]:
    """The rules that ``source`` breaks as the file of that name."""
    ruff = [sys.executable, "-m", "ruff", "check", "--output-format", "json"]
    done = subprocess.run(
        [*ruff, "--no-cache", "--stdin-filename", name, "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return [found["code"] for found in json.loads(done.stdout)]


PAGE_FORBIDS = re.compile(
    r"\beval\(|new Function|\b(?:inner|outer)HTML\b|insertAdjacentHTML|document\.(?:write|cookie)"
    r"|(?:local|session)Storage|indexedDB|(?<!app\.api\.)\bfetch\w*\(|XMLHttpRequest|WebSocket"
    r"|sendBeacon|\bimport\("
)
"""What runs text as code, shows it as HTML, stays in the browser, or goes past ComfyUI."""


def test_the_page_runs_no_text_keeps_nothing_and_asks_comfyui_alone() -> None:
    scripts = list((ROOT / "web").rglob("*.js"))
    found = {file.name: PAGE_FORBIDS.findall(_code(file)) for file in scripts}
    assert len(found) > 20
    assert {name: what for name, what in found.items() if what} == {}


def _code(script: Path) -> str:
    """``script`` without its comments, whose types are written as imports."""
    return re.sub(r"/\*.*?\*/", "", script.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize(
    "line",
    [
        *("eval(text)", "new Function(text)", "box.innerHTML = text", "localStorage.key = key"),
        *("await fetch(url)", "document.cookie", "new WebSocket(url)", "await import(url)"),
    ],
)
def test_the_check_of_the_page_finds_it(line: str) -> None:
    assert PAGE_FORBIDS.search(line)


@pytest.mark.parametrize("line", ["app.api.fetchApi(route)", 'import { app } from "./app.js"'])
def test_the_check_of_the_page_leaves_in_peace(line: str) -> None:
    assert not PAGE_FORBIDS.search(line)


# Links --------------------------------------------------------------------------------------------

DOCS = ROOT / "web" / "docs"
PAPERS = [file for where in ("*.md", "web/**/*.md", "tests/**/*.md") for file in ROOT.glob(where)]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_lead_to_what_is_there(paper: Path) -> None:
    # ComfyUI resolves the links of a help page beside the pages' folders, not in them.
    folder, root = (DOCS, DOCS) if DOCS in paper.parents else (paper.parent, ROOT)
    assert broken_links(paper.read_text(encoding="utf-8"), folder, root) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.md").write_text("")
    folder = tmp_path / "inner"
    (folder / "there.md").write_text("# A place\n\n## Here, there\n\n## A place\n")
    page = "# Top\n[a](there.md) [b](there.md#here-there) [c](#top) [d](there.md#a-place-1)"
    assert broken_links(page, folder, folder) == []
    for target in ("gone.md", "there.md#gone", "#gone", "there.md#a-place-2", "../outer.md", ".."):
        assert broken_links(f"# Top\n![a]({target})", folder, folder) == [target]
    assert broken_links("[a](../outer.md)", folder, tmp_path) == []


def test_a_link_in_code_is_none(tmp_path: Path) -> None:
    assert broken_links("`[a](b)`\n\n```\n[a](b)\n```\n", tmp_path, tmp_path) == []


# Workflows ----------------------------------------------------------------------------------------

SCHEMAS = ROOT / "tests" / "schemas"
SHIPPED = {
    "workflow": [
        *sorted((ROOT / "example_workflows").glob("*.json")),
        *sorted((ROOT / "subgraphs").glob("*.json")),
    ],
    "api": sorted((ROOT / "example_workflows" / "api").glob("*.json")),
}


def _schema(kind: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _document(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("kind", "file"),
    [(kind, file) for kind, files in SHIPPED.items() for file in files],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_a_workflow_has_the_form_that_comfyui_saves(kind: str, file: Path) -> None:
    assert [error.message for error in _schema(kind).iter_errors(_document(file))] == []


@pytest.mark.parametrize("kind", SHIPPED)
def test_every_part_that_a_schema_requires_is_missed(kind: str) -> None:
    """Taken away one at a time, from every workflow."""
    schema = _schema(kind)
    taken = 0
    for file in SHIPPED[kind]:
        document = _document(file)
        for owner, key in list(_required(schema.schema, document, schema.schema)):
            value = owner.pop(key)
            assert not schema.is_valid(document), f"{file.name} without {key}"
            owner[key] = value
            taken += 1
    assert taken > 90


def _required(schema: Any, document: Any, whole: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every key that ``schema`` requires in ``document``, with the object it is in."""
    schema = whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(document, dict):
        yield from ((document, key) for key in schema.get("required", []))
        for key, value in document.items():
            inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(inner, dict):
                yield from _required(inner, value, whole)
    elif isinstance(document, list) and isinstance(schema.get("items"), dict):
        for item in document:
            yield from _required(schema["items"], item, whole)
