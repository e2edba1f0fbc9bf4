"""Load the pack as ComfyUI does: a folder with any name, never on ``sys.path``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
NAME = "firered_edit"


def python_files() -> list[Path]:
    """Every module of the pack."""
    return [
        ROOT / "__init__.py",
        *(ROOT / "nodes").rglob("*.py"),
        *(ROOT / "pipeline").rglob("*.py"),
    ]


def load_pack() -> ModuleType:
    """The pack as the package ``firered_edit``, whatever its folder is called."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module
