"""Fixtures for all tests. The pack is loaded first, as ComfyUI loads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from doubles.tiny_model import build_tiny_model
from support.kinds import MakePhoto, MakeReference
from support.pack import load_pack

# Where other work keeps the cores busy, two threads wait for each other five times as long as one
# takes. The second line is for the processes that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

load_pack()

# The same examples in every run, and as much time for each as a busy machine takes. The session's
# own fixtures are functions without a state.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")

pytest_plugins = ["support.server_fixtures", "support.fal_fixtures"]

# These need the pack.
from firered_edit.pipeline.geometry import MatchImage  # noqa: E402
from firered_edit.pipeline.images import Pixels, Reference  # noqa: E402
from firered_edit.pipeline.request import EditRequest  # noqa: E402
from support.quick import quick_edits  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random-weight FireRed model in bf16."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny-firered")


@pytest.fixture(scope="session")
def tiny_model_fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in fp32, with the timestep kept away from the references."""
    folder = tmp_path_factory.mktemp("models") / "tiny-firered-fp32"
    return build_tiny_model(folder, dtype=torch.float32, zero_cond_t=True)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Edits of this module let the text encoder see small pictures."""
    with quick_edits():
        yield


@pytest.fixture(scope="session")
def photo() -> MakePhoto:
    """Photo-like pixels of a given width and height: smooth, coloured, with fine texture."""

    def make(width: int, height: int) -> Pixels:
        rng = np.random.default_rng(width * 10_007 + height)
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        smooth = np.stack([x, y, 0.5 + 0.5 * np.sin(6 * x + 4 * y)], axis=-1)
        noise = rng.normal(0, 0.02, smooth.shape)
        return np.rint(np.clip(smooth + noise, 0, 1) * 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def reference(photo: MakePhoto) -> MakeReference:
    """A photo-like reference of a given width and height."""
    return lambda width, height: Reference(photo(width, height))


@pytest.fixture(scope="session")
def asked(reference: MakeReference) -> EditRequest:
    """A small edit of two references; tests replace what they are about."""
    return EditRequest(
        prompt="put the hat on, 把背景变成夜晚",
        references=(reference(120, 90), reference(50, 80)),
        size=MatchImage(),
        num_images=1,
        seed=7,
        num_inference_steps=3,
        guidance_scale=4.0,
        negative_prompt="",
        acceleration="none",
        working_megapixels=0.0,
    )
