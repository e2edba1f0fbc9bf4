"""What stays on a card and what is streamed, on the real architecture and by ComfyUI's own rule."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from firered_edit.pipeline.errors import SetupError
from firered_edit.pipeline.host import PlainHandle
from firered_edit.pipeline.local import rates
from firered_edit.pipeline.local.estimates import GIB, RESERVE_BYTES, TILE
from firered_edit.pipeline.local.planning import (
    STREAMS,
    MemoryPlan,
    loaded_words,
    plan_memory,
    staying,
    step_time,
    weight_bytes,
)
from firered_edit.pipeline.local.rates import Rates
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.preparation import Prepared
from support.cards import CARDS, card_model
from support.inside import InsideHost, bridge
from support.pack import ROOT
from support.square_edits import square_edit


def _plan(stored: str, gib: float, references: int = 1) -> MemoryPlan:
    return plan_memory(card_model(stored), square_edit(references=references), int(gib * GIB))


@pytest.mark.parametrize(
    ("stored", "transformer", "encoder"),
    [("bf16", 25.4, 14.4), ("8-bit", 12.7, 7.7), ("Q4_K", 7.2, 7.7)],
)
def test_the_weights_are_those_published(stored: str, transformer: float, encoder: float) -> None:
    plan = _plan(stored, 80)
    assert plan.transformer / GIB == pytest.approx(transformer, abs=0.1)
    assert plan.encoder / GIB == pytest.approx(encoder, abs=0.1)


@pytest.mark.parametrize(
    ("stored", "gib", "streams", "encoder_stays"),
    [
        ("bf16", 80, False, True),
        ("bf16", 48, False, True),
        ("bf16", 32, False, False),
        ("bf16", 24, True, False),
        ("8-bit", 32, False, True),
        ("8-bit", 24, False, False),
        ("8-bit", 16, False, False),
        ("8-bit", 12, True, False),
        ("8-bit", 8, True, False),
        ("Q4_K", 24, False, True),
        ("Q4_K", 16, False, False),
        ("Q4_K", 12, False, False),
        ("Q4_K", 8, True, False),
    ],
)
def test_common_cards(stored: str, gib: int, streams: bool, encoder_stays: bool) -> None:
    plan = _plan(stored, gib)
    assert (plan.streamed > 0, plan.encoder_stays) == (streams, encoder_stays)


@pytest.mark.parametrize("stored", ["bf16", "8-bit", "Q4_K"])
@pytest.mark.parametrize("references", [1, 2, 3])
def test_no_plan_asks_for_more_than_there_is(stored: str, references: int) -> None:
    for gib in CARDS:
        plan = _plan(stored, gib, references)
        assert plan.stays + plan.sizes.denoise + RESERVE_BYTES <= gib * GIB
        remains = plan.stays - plan.gives_way
        assert remains + plan.vae + plan.sizes.decode + RESERVE_BYTES <= gib * GIB


def test_a_smaller_card_keeps_less_and_never_streams_less() -> None:
    plans = [_plan("8-bit", gib) for gib in CARDS]
    streamed = [plan.streamed for plan in plans]
    assert streamed == sorted(streamed)
    assert streamed[-1] > 6 * GIB


def test_more_pictures_leave_less_room() -> None:
    assert _plan("8-bit", 12, 3).stays < _plan("8-bit", 12, 1).stays


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(SetupError, match="this device has 1"):
        _plan("8-bit", 1)


def test_the_artist_reads_what_stays_and_what_moves() -> None:
    assert _plan("8-bit", 80).words() == {
        "transformer": "12.7 GB, all of it stays on the device",
        "text encoder": "7.7 GB, stays on the device",
        "vae": "0.2 GB, stays on the device",
    }
    small = _plan("8-bit", 12).words()
    assert small["transformer"].startswith("12.7 GB: 10.3 GB stays, 2.5 GB streamed each pass")
    assert small["transformer"].endswith("; 2.7 GB makes way for decoding")
    assert small["text encoder"] == "7.7 GB, comes and goes"


def test_tiles_are_part_of_a_plan() -> None:
    assert _plan("8-bit", 8).sizes.decode_tile is None
    assert _plan("8-bit", 4.3).sizes.decode_tile == TILE


def _layers(*sizes: int) -> nn.Module:
    """Layers of so many bytes."""
    weights = (torch.zeros(size, dtype=torch.uint8) for size in sizes)
    made = (nn.ParameterList([nn.Parameter(each, requires_grad=False)]) for each in weights)
    return nn.Sequential(*made)


def test_large_layers_stay_first_with_room_for_those_on_their_way() -> None:
    module = _layers(10, 10, 10, 10, 5, 5)
    assert staying(module, 50) == 50
    assert staying(module, 49) == 15
    assert staying(module, 30) == 0


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU brings layers in as a card does."""
    monkeypatch.setattr(_manager(), "NUM_STREAMS", STREAMS)


def _manager() -> ModuleType:
    found: ModuleType = bridge().memory.comfy.model_management
    return found


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_comfyui_keeps_what_was_planned(tiny_model: Path, streams: None, share: float) -> None:
    host = InsideHost()
    handle: Any = load_folder(tiny_model, "auto", host).transformer
    usable = int(share * weight_bytes(handle.module))
    handle.patcher.load(host.device, lowvram_model_memory=usable)
    assert handle.loaded_bytes == staying(handle.module, usable) > 0


def test_what_was_loaded_is_told_by_comfyui(tiny_model: Path, streams: None) -> None:
    host = InsideHost()
    handle: Any = load_folder(tiny_model, "auto", host).transformer
    assert loaded_words(handle) == "0.0 GB: 0.0 GB stays, 0.0 GB streamed each pass"
    host.load([handle], 0)
    assert loaded_words(handle) == "0.0 GB, all of it stays on the device"
    assert loaded_words(PlainHandle(handle.module)) is None


FAST, SLOW = Rates(790e12, 50e9), Rates(25e12, 12e9)


def _time(stored: str, gib: float, rates_: Rates, prepared: Prepared | None = None) -> Any:
    prepared = prepared or square_edit()
    model = card_model(stored)
    return step_time(model, prepared, plan_memory(model, prepared, int(gib * GIB)), rates_)


def test_a_step_takes_the_published_time_where_all_weights_stay() -> None:
    found = _time("bf16", 80, FAST)
    assert found.compute == pytest.approx(2 * 0.213, rel=0.02)
    assert found.streaming == 0
    assert str(found) == "about 0.42 s a step"


def test_without_guidance_a_step_is_one_pass() -> None:
    one, two = (_time("8-bit", 8, SLOW, square_edit(guidance_scale=scale)) for scale in (1.0, 4.0))
    assert two.compute == pytest.approx(2 * one.compute)
    assert two.streaming == pytest.approx(2 * one.streaming)


def test_both_branches_share_what_is_streamed() -> None:
    prepared = square_edit()
    plan = plan_memory(card_model("8-bit"), prepared, 8 * GIB)
    paired = replace(plan, passes=1)
    times = [step_time(card_model("8-bit"), prepared, each, SLOW) for each in (plan, paired)]
    assert times[0].streaming == pytest.approx(2 * times[1].streaming)
    assert times[0].compute == times[1].compute


def test_the_slower_of_both_sets_the_pace() -> None:
    slow_line = Rates(790e12, 1e9)
    found = _time("bf16", 24, slow_line)
    assert found.seconds == found.streaming > found.compute
    assert str(found).endswith("s a step, as fast as weights arrive")


def test_the_cpu_is_not_measured() -> None:
    assert rates.device_rates(torch.device("cpu")) is None


class _Event:
    """A CUDA event of a device on which everything takes five milliseconds."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        """The clock is made up."""

    def synchronize(self) -> None:
        """Nothing is queued."""

    def elapsed_time(self, other: _Event) -> float:
        return 5.0


def test_rates_are_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(rates, "SIDE", 64)
    assert rates._matrix_rate(torch.device("cpu")) == pytest.approx(2 * 64**3 / 0.005)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or AMD card")


@needs_cuda
def test_a_device_is_measured_once_and_quickly() -> None:
    device = torch.device("cuda", 0)
    found = rates.device_rates(device)
    assert found is not None
    assert 1e12 < found.matrix < 1e16
    assert 1e9 < found.copy < 1e12
    assert rates.device_rates(device) is found


@needs_cuda
@pytest.mark.parametrize("gib", [8, 12, 16, 24])
def test_a_card_of_that_size_carries_the_plan_out(gib: int) -> None:
    """The allocator is capped, in a process of its own: this one's ComfyUI has only a CPU."""
    command = [sys.executable, "tests/measure/cards.py", "--carry-out", str(gib)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(finished.stdout)
    assert found["peak_gib"] <= gib
    assert found["loaded_gib"] == pytest.approx(found["planned_gib"], abs=1.0)
