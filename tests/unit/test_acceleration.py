"""Faster passes: the reference's mathematics but for rounding, and steps left out."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend

from doubles.tiny_model import build_tiny_model
from firered_edit.pipeline.errors import EditCancelled, MissingPackageError
from firered_edit.pipeline.geometry import Custom
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local.acceleration import attention, caching, choosing, compiling
from firered_edit.pipeline.local.acceleration.passes import Stack
from firered_edit.pipeline.local.engine import LocalEngine, check_local
from firered_edit.pipeline.local.loras import use_lora
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.request import EditRequest, EditResult
from support.inside import InsideHost
from support.kinds import MakeReference

pytestmark = pytest.mark.usefixtures("quick")

SIZES = [(96, 64), (50, 80), (128, 48)]
STEPS_TO_LEAVE_OUT = 14
"""Six more than the recipe always computes."""

Loaded = Callable[[torch.dtype, bool], FireRedModel]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A tiny model of a dtype, its references modulated as at timestep zero or not."""

    @cache
    def load(dtype: torch.dtype, zero_cond_t: bool) -> FireRedModel:
        folder = tmp_path_factory.mktemp("accelerated") / "model"
        build_tiny_model(folder, dtype=dtype, zero_cond_t=zero_cond_t)
        return load_folder(folder, "auto", PlainHost())

    return load


@pytest.fixture(scope="module")
def model(loaded: Loaded) -> FireRedModel:
    return loaded(torch.float32, False)


@pytest.fixture
def long(asked: EditRequest) -> EditRequest:
    """An edit of which the recipe leaves steps out."""
    return replace(asked, acceleration="high", num_inference_steps=STEPS_TO_LEAVE_OUT)


def edit(
    model: FireRedModel, request: EditRequest, *, compiles: bool | None = None, **changes: Any
) -> EditResult:
    return LocalEngine(model, PlainHost(), compiles=compiles).edit(replace(request, **changes))


def said(result: EditResult) -> dict[str, str]:
    """What the receipt says of the acceleration."""
    found: dict[str, str] = result.receipt.details["acceleration"]
    return found


def furthest(one: EditResult, other: EditResult) -> float:
    return float((one.images - other.images).abs().max())


# The same but for rounding ----------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["no guidance", "guidance"])
@pytest.mark.parametrize("references", [1, 2, 3], ids=["1 picture", "2 pictures", "3 pictures"])
@pytest.mark.parametrize("zero_cond_t", [False, True], ids=["one time", "zero_cond_t"])
@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled"])
def test_regular_is_the_reference_but_for_rounding(
    loaded: Loaded,
    asked: EditRequest,
    reference: MakeReference,
    zero_cond_t: bool,
    references: int,
    guidance: float,
    compiles: bool,
) -> None:
    model = loaded(torch.float32, zero_cond_t)
    pictures = tuple(reference(*size) for size in SIZES[:references])
    request = replace(asked, references=pictures, guidance_scale=guidance)
    exact = edit(model, request)
    fast = edit(model, request, acceleration="regular", compiles=compiles)
    assert 0 < furthest(fast, exact) < 2e-5
    assert said(fast)["kernels"] == ("compiled" if compiles else "eager")
    assert ("guidance" in said(fast)) == (guidance > 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled"])
def test_in_bf16_regular_is_no_further_from_the_truth_than_the_reference(
    loaded: Loaded, asked: EditRequest, seed: int, compiles: bool
) -> None:
    """The truth being the same weights and noise in fp32."""
    half = loaded(torch.bfloat16, False)
    full = _widened(half)
    request = replace(asked, seed=seed)
    truth = edit(full, request).images
    exact = (edit(half, request).images - truth).norm()
    fast = (edit(half, request, acceleration="regular", compiles=compiles).images - truth).norm()
    assert 0 < fast < 1.1 * exact


def _widened(model: FireRedModel) -> FireRedModel:
    """``model`` with the same weights in fp32."""

    wide = {
        name: copy.deepcopy(getattr(model, name))
        for name in ("transformer", "modulation", "text_encoder", "vae")
    }
    for handle in wide.values():
        handle.module.float()
    return replace(model, dtype=torch.float32, cache=type(model.cache)(), **wide)


def test_the_reference_is_what_it_was_after_everything_else(
    model: FireRedModel, asked: EditRequest, long: EditRequest
) -> None:
    before = edit(model, asked)
    edit(model, long)
    edit(model, asked, acceleration="regular", compiles=True)
    assert torch.equal(edit(model, asked).images, before.images)
    assert said(before) == {"kernels": "reference"}


def test_branches_apart_give_what_they_give_together(
    model: FireRedModel, asked: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = edit(model, asked, acceleration="regular")
    apart = _narrow(monkeypatch)
    found = edit(model, asked, acceleration="regular")
    assert apart == [False]
    assert furthest(found, together) < 2e-5
    assert said(together)["guidance"] == "both branches in one pass"
    assert said(found)["guidance"] == "two passes a step"


def _narrow(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """As on a device that has no room for both branches in one pass; what it came to."""
    own, found = choosing.Acceleration.__init__, []

    def apart(self: Any, bench: Any, request: Any, paired: bool, compiles: Any = None) -> None:
        found.append(False)
        own(self, bench, request, False, compiles)

    monkeypatch.setattr(choosing.Acceleration, "__init__", apart)
    return found


def test_both_branches_ask_every_layer_for_its_weights_once_a_step(
    model: FireRedModel, asked: EditRequest
) -> None:
    """What is streamed, unpacked or patched to compute is so once instead of twice."""
    steps = asked.num_inference_steps
    assert set(_calls(model, asked).values()) == {2 * steps}
    assert set(_calls(model, replace(asked, acceleration="regular")).values()) == {steps}


def _calls(model: FireRedModel, request: EditRequest) -> Counter[str]:
    """How often an edit calls each linear layer of the blocks."""
    found: Counter[str] = Counter()
    layers = [
        (name, layer)
        for name, layer in model.transformer.module.transformer_blocks.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    with ExitStack() as stack:
        for name, layer in layers:
            hook = layer.register_forward_hook(lambda *_, name=name: found.update([name]))
            stack.callback(hook.remove)
        edit(model, request)
    assert len(found) == len(layers) > 0
    return found


# Inside ComfyUI ---------------------------------------------------------------------------------


def test_with_loras_on_layers_and_norms_it_is_the_reference_but_for_rounding(
    tiny_model_fp32: Path, asked: EditRequest, tmp_path: Path
) -> None:
    host = InsideHost(tiny_model_fp32 / "tokenizer")
    plain = load_folder(tiny_model_fp32, "auto", host)
    model = use_lora(plain, _lora_of_norms(plain, tmp_path), 1.0, True, host)
    engine = LocalEngine(model, host)
    exact = engine.edit(asked)
    fast = engine.edit(replace(asked, acceleration="regular"))
    assert furthest(fast, exact) < 2e-5
    assert furthest(LocalEngine(plain, host).edit(asked), exact) > 1e-3


def _lora_of_norms(model: FireRedModel, folder: Path) -> Path:
    """A LoRA file that changes norms and layers of attention."""
    own = model.transformer.module.state_dict()
    changed = ("attn.norm_q", "attn.norm_added_k", "attn.to_k", "attn.add_v_proj")
    tensors = {
        f"diffusion_model.{key.removesuffix('.weight')}.diff": 0.3 * torch.randn_like(weight)
        for key, weight in own.items()
        if key.endswith(".weight") and any(part in key for part in changed)
    }
    file = folder / "norms.safetensors"
    save_file(tensors, file)
    return file


# Compiling --------------------------------------------------------------------------------------


def test_nothing_is_compiled_again_for_other_sizes_prompts_and_references(
    model: FireRedModel, asked: EditRequest, reference: MakeReference
) -> None:
    """Counted by torch, which is also told to raise rather than to compile once more."""
    compiling.forget()
    torch._dynamo.reset()
    counters.clear()
    edit(model, asked, acceleration="regular", compiles=True, num_inference_steps=2)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 4
    canvases = [(64, 64), (96, 64), (64, 128), (144, 80), (208, 64)]
    prompts = ["dusk", "put the hat on, " * 5, "把背景变成夜晚，" * 40]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for (width, height), count, prompt in product(canvases, (1, 2, 3), prompts):
            edit(
                model,
                asked,
                prompt=prompt,
                references=tuple(reference(*size) for size in SIZES[:count]),
                size=Custom(width, height),
                acceleration="regular",
                compiles=True,
                num_inference_steps=2,
                guidance_scale=4.0 if len(prompt) > 4 else 1.0,
            )
    assert counters["stats"]["unique_graphs"] == graphs
    assert sum(counters["graph_break"].values()) == 0


def test_a_machine_that_cannot_compile_says_so_and_edits_all_the_same(
    model: FireRedModel,
    asked: EditRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> None:
            raise RuntimeError("Cannot find a working triton installation.")

        return fail

    compiling.forget()
    monkeypatch.setattr(torch, "compile", no_compiler)
    found = edit(model, asked, acceleration="regular", compiles=True)
    compiling.forget()
    assert said(found)["kernels"] == (
        "eager, since compiling failed: RuntimeError: Cannot find a working triton installation."
    )
    assert furthest(found, edit(model, asked)) < 2e-5
    assert "uncompiled" in caplog.text


def test_compiling_is_a_phase_and_can_be_cancelled(model: FireRedModel, asked: EditRequest) -> None:
    compiling.forget()
    phases: list[str] = []
    host = PlainHost(cancelled=lambda: compiling.PHASE.text in phases)
    host.say = phases.append  # type: ignore[method-assign]
    with pytest.raises(EditCancelled):
        LocalEngine(model, host, compiles=True).edit(replace(asked, acceleration="regular"))
    assert phases[-1] == compiling.PHASE.text
    assert said(edit(model, asked, acceleration="regular", compiles=True))["kernels"] == "compiled"


def test_kernels_are_compiled_on_gpus_only_by_default(
    model: FireRedModel, asked: EditRequest
) -> None:
    assert said(edit(model, asked, acceleration="regular"))["kernels"] == "eager"


# Attention --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "first"), [((8, 9), "flash"), ((9, 0), "cuDNN"), ((12, 0), "cuDNN")]
)
def test_attention_takes_the_fastest_kernel_of_the_card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], first: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    device = torch.device("cuda")
    assert attention.describe_attention(device) == first
    assert attention.backends(device)[-1] is SDPBackend.MATH


# Cancel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("acceleration", ["regular", "high"])
def test_no_block_starts_after_a_cancel(
    model: FireRedModel, long: EditRequest, acceleration: str
) -> None:
    """And what was broken off leaves no trace in the next edit."""
    fresh = edit(model, long, acceleration=acceleration)
    first, second = (block.attn.to_q for block in model.transformer.module.transformer_blocks[:2])
    started: list[str] = []
    hooks = [
        first.register_forward_hook(lambda *_: started.append("first")),
        second.register_forward_hook(lambda *_: started.append("second")),
    ]
    host = PlainHost(cancelled=lambda: len(started) == 21)
    with pytest.raises(EditCancelled):
        LocalEngine(model, host).edit(replace(long, acceleration=acceleration))
    for hook in hooks:
        hook.remove()
    assert len(started) == 21
    assert torch.equal(edit(model, long, acceleration=acceleration).images, fresh.images)


# Steps left out ---------------------------------------------------------------------------------


@pytest.fixture
def eager_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe with a threshold that random weights keep below."""
    monkeypatch.setattr(caching, "THRESHOLD", 10.0)


@pytest.mark.usefixtures("eager_to_skip")
@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["no guidance", "guidance"])
def test_high_leaves_steps_out_and_says_how_many(
    model: FireRedModel, long: EditRequest, guidance: float
) -> None:
    computed = _passes_through_the_last_block(model)
    found = edit(model, long, guidance_scale=guidance)
    assert said(found)["approximation"].startswith("6 of 14 steps left out")
    assert len(computed()) == 8
    exact = edit(model, long, acceleration="regular", guidance_scale=guidance)
    assert furthest(found, exact) > 1e-3
    assert torch.equal(edit(model, long, guidance_scale=guidance).images, found.images)


def _passes_through_the_last_block(model: FireRedModel) -> Callable[[], list[None]]:
    passes: list[None] = []
    last = model.transformer.module.transformer_blocks[-1].attn.to_q
    hook = last.register_forward_hook(lambda *_: passes.append(None))

    def stop() -> list[None]:
        hook.remove()
        return passes

    return stop


@pytest.mark.usefixtures("eager_to_skip")
def test_each_picture_of_a_batch_begins_anew(model: FireRedModel, long: EditRequest) -> None:
    both = edit(model, long, num_images=2)
    assert said(both)["approximation"].startswith("12 of 28 steps left out")
    second = edit(model, long, seed=long.seed + 1)
    assert torch.equal(both.images[1], second.images[0])


@pytest.mark.usefixtures("eager_to_skip")
def test_branches_that_go_apart_are_each_left_out(
    model: FireRedModel, long: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = edit(model, long)
    _narrow(monkeypatch)
    apart = edit(model, long)
    assert said(apart)["approximation"].startswith("6 of 14 steps left out")
    assert furthest(apart, together) < 1e-3


def test_too_few_steps_are_all_computed(model: FireRedModel, asked: EditRequest) -> None:
    found = edit(model, asked, acceleration="high", num_inference_steps=8)
    assert said(found)["approximation"].startswith("0 of 8 steps left out")
    exact = edit(model, asked, acceleration="regular", num_inference_steps=8)
    assert torch.equal(found.images, exact.images)


@pytest.mark.usefixtures("eager_to_skip")
@pytest.mark.parametrize("ends", ["well", "cancelled"])
def test_nothing_of_the_recipe_outlives_the_edit(
    model: FireRedModel, long: EditRequest, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    stacks: list[weakref.ref[Stack]] = []
    own = caching.StepCache.__init__

    def watched(self: Any, made: list[Stack], steps: int) -> None:
        stacks.extend(weakref.ref(stack) for stack in made)
        own(self, made, steps)

    monkeypatch.setattr(caching.StepCache, "__init__", watched)
    before = {name for name, _ in model.transformer.module.named_modules()}
    host = PlainHost(cancelled=lambda: ends == "cancelled" and bool(stacks))
    try:
        LocalEngine(model, host).edit(long)
    except EditCancelled:
        assert ends == "cancelled"
    gc.collect()
    assert [stack() for stack in stacks] == [None]
    assert {name for name, _ in model.transformer.module.named_modules()} == before


def test_high_without_its_package_is_said_before_a_weight_moves(
    long: EditRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install cache-dit.* Or choose regular"):
        check_local(long)


@pytest.mark.usefixtures("eager_to_skip")
def test_the_package_writes_nothing_to_the_log(
    model: FireRedModel, long: EditRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(model, long)
    assert "Cache-DiT" not in "".join(capfd.readouterr())
