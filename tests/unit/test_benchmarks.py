"""The benchmark's own promises: its arithmetic, its table, and its contestants at a tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch

from benchmarks import recompiling
from benchmarks.contestants import published
from benchmarks.deviation import Deviations
from benchmarks.entering import Entry, Field
from benchmarks.floors import floor_of, prompt_tokens
from benchmarks.plot import draw
from benchmarks.racing import Plan, Races
from benchmarks.report import markdown
from benchmarks.results import STOCK, Results, Run, of_stock
from benchmarks.reuse import every
from benchmarks.reuse_trial import Trial
from benchmarks.scale import FULL, KINDS, TINY
from benchmarks.task import Done, Precision, Task, task
from benchmarks.weights import CALM, Weights, empty_encoder, filled, make_weights
from firered_edit.pipeline.local.encoding import (
    TEMPLATE_HEAD_TOKENS,
    condition_pictures,
    encode_prompt,
)
from support.pack import ROOT

GUIDED, SHORTER, UNGUIDED = KINDS


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(TINY, tmp_path_factory.mktemp("tokenizer"), torch.device("cpu"))


@pytest.fixture(scope="module")
def field(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Ours at every acceleration beside the stock pipeline, on plain torch."""
    folder = tmp_path_factory.mktemp("plain")
    entry = Entry(weights, "plain", folder, ["bf16", "8-bit"], compiles=None)
    return entry.field(["none", "regular", "high", "stock", "native", "published"])


def test_who_cannot_take_part_says_what_to_do(field: Field) -> None:
    assert "ComfyUI" in field.absent["ours, 8-bit"]
    assert "README" in field.absent["ComfyUI native, bf16"]


def test_a_package_that_is_missing_is_named_as_pip_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "PACKAGES", {"optimum.nothing": "nothing==1"})
    assert published.missing() == ["nothing==1"]


def test_every_contestant_makes_a_picture_and_tells_of_every_step(
    field: Field, weights: Weights
) -> None:
    for contestant in field.contestants:
        steps: list[float] = []
        done = contestant.edit(
            Task(weights.scale, 2, 3, 4.0, 1), lambda seen=steps: seen.append(perf_counter())
        )
        assert len(steps) == 3, contestant.name
        assert done.picture.shape == (TINY.side, TINY.side, 3)
        assert done.picture.std() > 0.02
        assert contestant.weight_bytes > 1e6


def test_weights_are_shared_between_the_contestants(field: Field, weights: Weights) -> None:
    (stock,) = (each for each in field.contestants if each.name == STOCK)
    ours = field.models["bf16"].transformer.module
    name = "transformer_blocks.0.attn.to_q.weight"
    places = {
        module.get_parameter(name).data_ptr()
        for module in (ours, stock.pipeline.transformer)  # type: ignore[attr-defined]
    }
    assert places == {weights.transformer[name].data_ptr()}


def test_a_table_of_real_runs_is_written(field: Field, weights: Weights, tmp_path: Path) -> None:
    results = _results()
    results.absent = field.absent
    Races(weights, field.contestants, results, _plan()).run(lambda: None)
    text = markdown(results)
    assert "| ours, regular, bf16 |" in text
    assert all(name in text for name in field.absent)
    shares = [line.split("|")[3].strip() for line in text.splitlines() if "| stock" in line]
    assert shares == ["1.00"] * 3
    results.write_json(tmp_path / "results.json")
    read = json.loads((tmp_path / "results.json").read_text())
    assert len(read["cells"]) == 3 * len(field.contestants)
    draw(results, tmp_path / "results.svg")
    assert ElementTree.parse(tmp_path / "results.svg").getroot().tag.endswith("svg")  # noqa: S314


@pytest.mark.timeout(280)
def test_the_command_races_comfyui_in_a_process_of_its_own(tmp_path: Path) -> None:
    asked = [sys.executable, str(ROOT / "tests" / "benchmarks" / "run.py")]
    asked += ["--scale", "tiny", "--references", "1", "--kinds", "8", "--repeats", "1"]
    asked += ["--parts", "races", "--contestants", "stock", "regular", "native"]
    asked += ["--out", str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    raced = {(cell["contestant"], cell["precision"]): cell["problem"] for cell in cells}
    assert raced == {
        (STOCK, "bf16"): "",
        ("ours, regular", "bf16"): "",
        ("ours, regular", "8-bit"): "",
        ("ComfyUI native", "bf16"): "",
        ("ComfyUI native", "8-bit"): "",
    }
    assert str(ROOT) not in (tmp_path / "results.json").read_text()
    assert (tmp_path / "results.md").read_text() == done.stdout


def test_contestants_take_turns_and_one_that_fails_stops_nobody(weights: Weights) -> None:
    calls: list[str] = []
    contestants = [
        _Pretended("a", calls),
        _Pretended("b", calls, fails=True),
        _Pretended("c", calls, whole=True),
    ]
    results = _results()
    Races(weights, contestants, results, _plan(repeats=2, kinds=[GUIDED])).run(lambda: None)
    first, second, third = results.cells
    assert calls == ["a2", "b2", "c2", "a2", "c3", "a2", "c3"]
    assert (len(first.runs), len(third.runs)) == (2, 2)
    assert "no luck" in second.problem


def test_a_race_ends_in_time_and_tells_what_it_has(weights: Weights) -> None:
    calls: list[str] = []
    results = _results()
    plan = _plan(deadline=perf_counter() - 1)
    Races(weights, [_Pretended("a", calls)], results, plan).run(lambda: None)
    assert not calls
    assert "not run, no time left: 1 reference, guidance, 3 steps" in markdown(results)


def test_steps_of_the_same_kind_are_not_run_again(weights: Weights) -> None:
    calls: list[str] = []
    results = _results()
    plan = _plan(kinds=[GUIDED, SHORTER])
    Races(weights, [_Pretended("a", calls)], results, plan).run(lambda: None)
    longer, shorter = results.cells
    assert calls == ["a2", "a2"]
    assert shorter.step_s == longer.step_s
    assert longer.edit_s[0] - shorter.edit_s[0] == pytest.approx(longer.step_s[0])


def test_an_edit_is_extrapolated_by_the_median_step() -> None:
    run = Run(total_s=10.0, steps_s=[1.0, 2.0, 1.0], peak_bytes=None)
    assert run.edit_s(4) == 10.0
    assert run.edit_s(40) == 46.0


def test_ratios_are_taken_between_neighbours() -> None:
    assert of_stock([1.0, 4.0, 3.0], [2.0, 8.0, 3.0]) == 0.5
    assert of_stock([], [1.0]) is None


def test_the_floor_at_full_size_is_the_known_one(weights: Weights) -> None:
    full = Weights(FULL, weights.device, weights.dtype, weights.processor, {}, {}, {})
    floor = floor_of(task(FULL, 1, GUIDED, 40, 0), full)
    one_pass = floor.step.total / 2
    assert 165e12 < one_pass < 172e12
    assert floor.edit(40).total > 40 * floor.step.total
    assert floor.edit(40).total < 41 * floor.step.total


def test_tokens_are_counted_as_the_encoder_gets_them(weights: Weights) -> None:
    asked = task(TINY, 2, UNGUIDED, 2, 3)
    encoder = filled(empty_encoder(weights.encoder_config), weights.encoder).model
    pictures = condition_pictures(asked.pictures)
    with torch.no_grad():
        read = encode_prompt(encoder, weights.processor, asked.prompt, pictures, weights.device)
    counted = prompt_tokens(weights.processor, asked.prompt, 2) - TEMPLATE_HEAD_TOKENS
    assert counted == read.shape[1]


def test_references_refreshed_at_every_step_give_the_same_bits(
    weights: Weights, field: Field
) -> None:
    trial = Trial(weights, field.models["bf16"], field.host)
    for references in (1, 3):
        plain, _ = trial.denoised(references, GUIDED, None)
        kept, _ = trial.denoised(references, GUIDED, every(1))
        assert torch.equal(plain, kept)


def test_kept_references_change_the_picture_a_little_and_are_then_forgotten(
    weights: Weights, field: Field
) -> None:
    trial = Trial(weights, field.models["bf16"], field.host)
    plain, _ = trial.denoised(2, GUIDED, None)
    kept, _ = trial.denoised(2, GUIDED, every(1000))
    again, _ = trial.denoised(2, GUIDED, None)
    change = (kept - plain).float().norm() / plain.float().norm()
    assert 1e-4 < change < 0.9
    assert torch.equal(plain, again)


def test_regular_differs_from_none_by_rounding_in_latents_and_picture(
    weights: Weights, field: Field
) -> None:
    exact, regular = field.ours("none", "bf16"), field.ours("regular", "bf16")
    assert exact is not None
    assert regular is not None
    found = Deviations(exact, [exact, regular], field.host, weights.scale)
    found.run(1)
    same, other = found.rows
    assert (float(same["latents, most"]), float(same["picture, most of 255"])) == (0, 0)
    assert 0 < float(other["latents, RMS"]) < 0.2


def test_calm_weights_let_step_caching_leave_out_steps(tmp_path: Path) -> None:
    scale = replace(TINY, layers=10)
    calm = make_weights(scale, tmp_path, torch.device("cpu"), strength=CALM)
    field = Entry(calm, "plain", tmp_path, ["bf16"], compiles=None).field(["high"])
    (high,) = field.contestants
    done = high.edit(Task(scale, 1, 16, 1.0, 1), lambda: None)
    assert not done.said["approximation"].startswith("0 of 16 steps")


def test_a_recompilation_would_be_counted() -> None:
    @torch.compile(backend="eager", dynamic=False)
    def doubled(values: torch.Tensor) -> torch.Tensor:
        return values * 2

    torch._dynamo.reset()
    doubled(torch.ones(3))
    before = recompiling.graphs()
    doubled(torch.ones(3))
    assert recompiling.graphs() == before
    doubled(torch.ones(4))
    assert recompiling.graphs() == before + 1


def _results() -> Results:
    return Results("Tiny", {"device": "2 cores, no GPU"}, 1e12)


def _plan(
    *, repeats: int = 1, kinds: list[Any] | None = None, deadline: float = float("inf")
) -> Plan:
    order = [GUIDED, UNGUIDED, SHORTER]
    return Plan([1], kinds or order, repeats, whole=False, steps=None, deadline=deadline)


class _Pretended:
    """Takes note of its name and of the steps it is asked for."""

    precision: Precision = "bf16"
    weight_bytes = 0

    def __init__(
        self, name: str, calls: list[str], *, fails: bool = False, whole: bool = False
    ) -> None:
        self.name = name
        self.whole = whole
        self._calls = calls
        self._fails = fails

    def edit(self, asked: Task, on_step: Callable[[], None]) -> Done:
        self._calls.append(f"{self.name}{asked.steps}")
        if self._fails:
            raise RuntimeError("no luck")
        for _ in range(asked.steps):
            on_step()
        return Done(torch.zeros(1))
