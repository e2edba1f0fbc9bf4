"""Whether kernels compiled for one edit serve all others: counted by torch's own counters."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.contestants.ours import request
from benchmarks.hosting import Home, load_model, make_host
from benchmarks.scale import KINDS, TINY
from benchmarks.task import task
from benchmarks.weights import make_weights
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import Custom  # noqa: E402 - needs the pack
from firered_edit.pipeline.images import Reference  # noqa: E402
from firered_edit.pipeline.local.engine import LocalEngine  # noqa: E402
from firered_edit.pipeline.request import EditRequest  # noqa: E402

SIZES = ((64, 64), (96, 64), (64, 128), (80, 112), (144, 144))
REFERENCES = (1, 2, 3)
PROMPTS = ("Make it rain.", "Make it rain in the street at dusk. " * 4, "Make it rain. " * 30)
GUIDANCES = (1.0, 4.0)


def count_recompiles(home: Home, folder: Path, device: torch.device) -> list[dict[str, Any]]:
    """Edits of every size, count of references and length of prompt; two of each edit's steps.

    The first edit compiles; whatever torch compiles after it is a recompilation.
    """
    weights = make_weights(TINY, folder, device)
    host = make_host(home, device, folder)
    engine = LocalEngine(load_model(weights, host, "full"), host, compiles=True)
    requests = _requests()
    torch._dynamo.reset()
    started = perf_counter()
    engine.edit(requests[0])
    first_s, compiled, broken = perf_counter() - started, graphs(), _breaks()
    for asked in requests[1:]:
        engine.edit(asked)
    return [
        {
            "edits": str(len(requests)),
            "first edit s": f"{first_s:.1f}",
            "graphs compiled by it": str(compiled),
            "graphs compiled after it": str(graphs() - compiled),
            "graph breaks": str(_breaks()),
            "of them after it": str(_breaks() - broken),
        }
    ]


def _requests() -> list[EditRequest]:
    cases = itertools.product(SIZES, REFERENCES, PROMPTS)
    return [
        _request(size, references, prompt, GUIDANCES[number % 2])
        for number, (size, references, prompt) in enumerate(cases)
    ]


def _request(size: tuple[int, int], references: int, prompt: str, guidance: float) -> EditRequest:
    usual = request(task(TINY, 1, KINDS[2], 2, references), "regular")
    width, height = size
    picture = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    return replace(
        usual,
        size=Custom(width, height),
        prompt=prompt,
        references=(Reference(picture),) * references,
        guidance_scale=guidance,
    )


def graphs() -> int:
    """Graphs that torch has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _breaks() -> int:
    return sum(torch._dynamo.utils.counters["graph_break"].values())
