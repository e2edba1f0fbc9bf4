"""The house itself: import rules, metadata in step, nothing unwanted in the repository."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from firered_edit.pipeline.request import PACK_VERSION
from support.comfyui import comfyui_source
from support.pack import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

COMFYUI_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths"} | {
    "nodes",
    "server",
    "execution",
    "latent_preview",
}


def _python_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imports(file: Path) -> Iterator[str]:
    """Every module ``file`` imports, anywhere in it, absolute from the pack's root."""
    package = ("pack", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def _reaching(room: str, *targets: str) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in _python_files(room)
        for module in _imports(file)
        if any(module == target or module.startswith(f"{target}.") for target in targets)
    ]


def test_the_import_reader_sees_what_is_there() -> None:
    assert _reaching("nodes", "pack.pipeline.local.engine")
    assert _reaching("nodes/host", "comfy")
    assert _reaching("pipeline/fal", "pack.pipeline.errors")


def test_pipeline_knows_neither_comfyui_nor_the_nodes() -> None:
    assert not _reaching("pipeline", "pack.nodes", *COMFYUI_MODULES)


def test_the_engines_do_not_know_each_other() -> None:
    assert not _reaching("pipeline/fal", "pack.pipeline.local")
    assert not _reaching("pipeline/local", "pack.pipeline.fal")


def test_only_the_host_room_reaches_into_comfyui() -> None:
    nodes = [line for line in _reaching("nodes", *COMFYUI_MODULES) if "nodes/host/" not in line]
    assert all(re.search(r"imports comfy_api\.latest\.", line) for line in nodes)


@pytest.mark.parametrize("package", ["diffusers", "transformers", "accelerate", "torchvision"])
def test_heavy_packages_are_imported_inside_functions_only(package: str) -> None:
    for file in [*_python_files("nodes"), *_python_files("pipeline"), ROOT / "__init__.py"]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {getattr(node, "module", None) or node.names[0].name for node in top}
        assert not any(name.partition(".")[0] == package for name in names), file


def _requirements(lines: list[str]) -> list[str]:
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def test_requirements_txt_is_in_step_with_the_project() -> None:
    listed = _requirements((ROOT / "requirements.txt").read_text().splitlines())
    assert listed == PYPROJECT["project"]["dependencies"]
    assert all(re.fullmatch(r"[a-z]+>=[\d.]+", line) for line in listed), "lower bounds only"


def _name(requirement: str) -> str:
    return re.split(r"[<>=~!\[ ]", requirement)[0].lower().replace("_", "-")


def test_the_environment_has_what_the_pack_and_comfyui_need() -> None:
    comfyui = _requirements((comfyui_source() / "requirements.txt").read_text().splitlines())
    have = set(map(_name, PYPROJECT["tool"]["hatch"]["envs"]["default"]["dependencies"]))
    assert set(map(_name, [*PYPROJECT["project"]["dependencies"], *comfyui])) <= have


def test_the_environment_is_pinned() -> None:
    lines = _requirements((ROOT / "tests" / "constraints.txt").read_text().splitlines())
    pinned = {_name(line) for line in lines if "==" in line}
    assert set(map(_name, PYPROJECT["tool"]["hatch"]["envs"]["default"]["dependencies"])) <= pinned


def test_the_version_is_one() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = PYPROJECT["project"]["version"]
    assert version == PACK_VERSION
    assert re.search(rf"^## \[({re.escape(version)}|Unreleased)\]", changelog, re.MULTILINE)


def test_the_registry_metadata_is_complete() -> None:
    comfy = PYPROJECT["tool"]["comfy"]
    assert {"PublisherId", "DisplayName", "Icon", "requires-comfyui"} <= comfy.keys()
    assert "comfyui" not in PYPROJECT["project"]["name"]


def test_the_readme_holds_both_commands_and_is_short() -> None:
    assert len(README.splitlines()) <= 200
    for heading, last in (("Try it", "hatch run demo"), ("Test it", "hatch run test")):
        block = re.search(rf"^## {heading}\n.*?```sh\n(.*?)```", README, re.MULTILINE | re.DOTALL)
        assert block is not None
        assert block[1].strip().endswith(last)


def test_pictures_are_small() -> None:
    pictures = [file for kind in ("png", "jpg", "webp") for file in _shipped(f"*.{kind}")]
    assert pictures
    assert not [file for file in pictures if file.stat().st_size > 200_000]


def _shipped(pattern: str) -> list[Path]:
    rooms = ("web", "example_workflows")
    return [file for room in rooms for file in (ROOT / room).rglob(pattern)]
