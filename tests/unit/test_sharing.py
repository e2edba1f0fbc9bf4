"""Files that are loaded are not loaded again while their model is alive."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest

from firered_edit.pipeline.host import Phase, PlainHost
from firered_edit.pipeline.local.model import FireRedModel, Precision
from firered_edit.pipeline.local.sharing import LoadedModels
from firered_edit.pipeline.local.weights import load_folder
from support.inside import InsideHost


class _Host(InsideHost):
    """Remembers what was loaded, and what the node said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.loads = 0

    def phase(self, phase: Phase) -> None:
        self.loads += phase.text == "loading transformer"

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def host() -> _Host:
    return _Host()


@pytest.fixture
def loaded() -> LoadedModels:
    return LoadedModels()


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "firered"))


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_the_same_files_are_read_once(
    tiny_model: Path, host: _Host, loaded: LoadedModels, precision: Precision
) -> None:
    first = load_folder(tiny_model, "auto", host, loaded)
    assert load_folder(tiny_model, precision, host, loaded) is first
    assert host.loads == 1
    assert host.said == [f"{tiny_model.name}, bfloat16"] * 2


def test_another_precision_is_another_model(
    tiny_model: Path, host: _Host, loaded: LoadedModels
) -> None:
    models = [load_folder(tiny_model, each, host, loaded) for each in ("auto", "int8", "fp8")]
    assert len(set(map(id, models))) == host.loads == 3


def _rewrite_weights(folder: Path) -> None:
    file = next((folder / "vae").glob("*.safetensors"))
    os.utime(file, ns=(1, 1))


def _change_schedule(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"shift_terminal": 0.02', '"shift_terminal": 0.03'))


@pytest.mark.parametrize("change", [_rewrite_weights, _change_schedule])
def test_changed_files_are_read_again(
    folder: Path, host: _Host, loaded: LoadedModels, change: object
) -> None:
    first = load_folder(folder, "auto", host, loaded)
    assert callable(change)
    change(folder)
    assert load_folder(folder, "auto", host, loaded) is not first


def test_a_model_that_nobody_holds_is_let_go(
    tiny_model: Path, host: _Host, loaded: LoadedModels
) -> None:
    load_folder(tiny_model, "auto", host, loaded)
    gc.collect()
    load_folder(tiny_model, "auto", host, loaded)
    assert host.loads == 2


def test_nothing_is_shared_unasked(tiny_model: Path) -> None:
    models: list[FireRedModel] = [load_folder(tiny_model, "auto", PlainHost()) for _ in range(2)]
    assert models[0] is not models[1]
