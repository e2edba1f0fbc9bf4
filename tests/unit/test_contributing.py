"""CONTRIBUTING.md against the repository: what it names is there, and every command is named."""

from __future__ import annotations

import re
import tomllib

import pytest

from support.pack import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"][
    "envs"
]["default"]["scripts"]

README = (ROOT / "README.md").read_text(encoding="utf-8")

# A folder, or a name with a suffix; ``<node>`` and ``*`` stand for any.
PATHS = sorted(set(re.findall(r"`((?:[\w<>*-]+/)+[\w<>*.-]*|\w[\w.]*\.(?:md|toml|txt))`", PAGE)))
NAMES = re.findall(r"`(\w+)` in `([\w./]+)`", PAGE)


def test_paths_and_names_are_found_in_the_page() -> None:
    assert len(PATHS) > 40
    assert len(NAMES) >= 10


@pytest.mark.parametrize("path", PATHS)
def test_a_path_leads_to_what_is_there(path: str) -> None:
    assert list(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_a_name_is_in_the_file_it_is_said_to_be_in(name: str, path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    begins = rf"^ *(?:export )?(?:(?:def|class|const) )?{name}\b *[:=(]"
    assert re.search(begins, text, re.MULTILINE)


def test_every_command_is_listed_and_no_other() -> None:
    table = PAGE.split("\n## Commands\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(SCRIPTS)


def test_commands_that_are_advised_exist() -> None:
    assert set(re.findall(r"hatch run ([\w-]+)", PAGE)) <= set(SCRIPTS)


def test_the_two_commands_are_those_of_the_readme() -> None:
    block = PAGE.split("```sh\n")[1].split("```")[0]
    lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert len(lines) == 4
    assert [line for line in lines if line not in README.splitlines()] == []
