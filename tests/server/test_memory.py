"""The models as guests of ComfyUI's memory manager, in a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from doubles.tiny_model import build_tiny_model
from support.comfyui import ComfyUI, running_comfyui, wait_until
from support.server_fixtures import furnish
from support.workflows import Workflow, receipt, saved

DEVICE_BYTES = 4 * 2**20
"""Less than the tiny text encoder: only a part of it fits."""

PARTS = {"QwenImageTransformer2DModel", "Qwen2_5_VLModel", "AutoencoderKLQwenImage"}

Picture = Callable[[int, int], str]


def _loaded(comfyui: ComfyUI) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in comfyui.get("/test/loaded")}


def test_the_models_are_known_to_comfyui_and_its_button_frees_them(
    comfyui: ComfyUI, local: Workflow
) -> None:
    comfyui.forget()
    comfyui.run(local)
    assert _loaded(comfyui).keys() == PARTS
    comfyui.forget()
    wait_until(lambda: not _loaded(comfyui))


def test_a_new_seed_reads_neither_prompt_nor_pictures_again(
    comfyui: ComfyUI, local: Workflow
) -> None:
    comfyui.forget()
    first = receipt(local, comfyui.run(local))["details"]["cache"]
    local.set("FireRedEdit", seed=4321)
    second = receipt(local, comfyui.run(local))["details"]["cache"]
    assert first["prompts"] == "0 of 2 from cache"
    assert second == {
        "prompts": "2 of 2 from cache",
        "references": "1 of 1 from cache",
        "modulation tables": "1 of 1 from cache",
    }


def test_the_button_that_frees_memory_drops_what_was_remembered(
    comfyui: ComfyUI, local: Workflow
) -> None:
    comfyui.run(local)
    # The button for models only: ComfyUI keeps the loader's output, and with it the cache.
    comfyui.post("/free", {"unload_models": True}).raise_for_status()
    wait_until(lambda: not _loaded(comfyui))
    local.set("FireRedEdit", seed=4322)
    again = receipt(local, comfyui.run(local))["details"]["cache"]
    assert again["prompts"] == "0 of 2 from cache"


@pytest.fixture(scope="module")
def small_card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A ComfyUI that believes in a card of ``DEVICE_BYTES``, with two models to choose from."""
    base = tmp_path_factory.mktemp("small")
    furnish(base)
    build_tiny_model(base / "models" / "diffusers" / "another", seed=1)
    with running_comfyui(base, environ={"TEST_DEVICE_BYTES": str(DEVICE_BYTES)}) as server:
        yield server


def _hand_over(workflow: Workflow, source: ComfyUI, target: ComfyUI) -> None:
    """Let ``target`` have the picture that ``source`` was given."""
    name = workflow[workflow.node("LoadImage")]["inputs"]["image"]
    target.upload(source.base / "input" / name)


@pytest.mark.parametrize("acceleration", ["none", "regular"])
def test_a_small_card_streams_and_gives_the_same_picture(
    small_card: ComfyUI, comfyui: ComfyUI, local: Workflow, acceleration: str
) -> None:
    local.set("FireRedEdit", seed=99, acceleration=acceleration)
    expected = saved(comfyui, local, comfyui.run(local)).tobytes()
    _hand_over(local, comfyui, small_card)
    found = saved(small_card, local, small_card.run(local)).tobytes()
    assert found == expected
    assert "loaded partially" in small_card.log.read_text(errors="replace")


def test_another_model_evicts_ours(small_card: ComfyUI, comfyui: ComfyUI, local: Workflow) -> None:
    _hand_over(local, comfyui, small_card)
    small_card.run(local)
    local.set("FireRedLoadModel", **{"source.folder": "another"})
    small_card.run(local)
    loaded = small_card.get("/test/loaded")
    assert sum(model["loaded"] for model in loaded) <= DEVICE_BYTES
