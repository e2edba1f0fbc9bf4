"""What stays on cards of 80 to 8 GB, what is streamed, and how long a step takes.

Plans for the published architecture, as the engine makes them before anything is loaded: an edit at
one megapixel with guidance, the branches one after the other. `streamed` comes to the card in every
pass. `makes way` is what leaves it for decoding and comes back in the next edit. Seconds per step
are predicted from counted operations and bytes at rates that are assumed for each size of card
(products in bf16 at what real kernels reach, copies over its usual bus); on this machine's own card
they are measured. What lies between products is not counted, nor are faster 8-bit products.

With `--carry-out GB` on a machine with a card, one pass in 8 bits really runs in that much memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from support.cards import CARDS, card_model
from support.inside import InsideHost
from support.real_size import real_transformer
from support.square_edits import square_edit

from firered_edit.pipeline.errors import SetupError  # isort: skip - the pack is loaded by now
from firered_edit.pipeline.local.estimates import GIB  # isort: skip
from firered_edit.pipeline.local.modulation import Table, take_out  # isort: skip
from firered_edit.pipeline.local.planning import (  # isort: skip
    MemoryPlan,
    plan_memory,
    step_time,
)
from firered_edit.pipeline.local.rates import Rates, device_rates  # isort: skip
from firered_edit.pipeline.preparation import Prepared  # isort: skip

ASSUMED = {
    80: Rates(450e12, 50e9),
    48: Rates(150e12, 25e9),
    32: Rates(200e12, 50e9),
    24: Rates(140e12, 25e9),
    16: Rates(80e12, 25e9),
    12: Rates(60e12, 25e9),
    8: Rates(25e12, 12e9),
}
"""Of a usual card of so many GB: H100, L40, 5090, 4090, 4070 Ti Super, 4070, 4060."""

STEP = "s a step"

PROMPT = "put the hat of the second picture on the head in the first"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--carry-out", type=float, metavar="GB", help="run one pass in so much")
    asked = parser.parse_args()
    if asked.carry_out:
        sys.stdout.write(json.dumps(carried_out(asked.carry_out)) + "\n")
        return 0
    for stored in ("bf16", "8-bit", "Q4_K"):
        sys.stdout.write(f"{stored}, GB\n\n" + "\n".join(table(stored)) + "\n\n")
    return 0


def table(stored: str) -> Iterator[str]:
    head = ["card", "references", "stays", "streamed", "makes way", "text encoder", "activations"]
    yield row([*head, "decoding", STEP, "set by"])
    yield row(["---:"] * (len(head) + 3))
    for card in CARDS:
        for references in (1, 2, 3):
            yield row([str(card), str(references), *cells(stored, card, references)])


def cells(stored: str, card: int, references: int) -> list[str]:
    model, prepared = card_model(stored), edit(references)
    try:
        plan = plan_memory(model, prepared, card * GIB)
    except SetupError:
        return ["refused", *[""] * 7]
    taken = step_time(model, prepared, plan, rates_of(card))
    return [
        *(f"{size / GIB:.1f}" for size in (plan.stays, plan.streamed, plan.gives_way)),
        "stays" if plan.encoder_stays else "comes and goes",
        f"{plan.sizes.denoise / GIB:.2f}",
        f"in tiles of {plan.sizes.decode_tile}" if plan.sizes.decode_tile else "whole",
        f"{taken.seconds:.2f}",
        "streaming" if taken.streaming > taken.compute else "products",
    ]


def rates_of(card: int) -> Rates:
    """Measured where this machine has a card, else assumed for ``card``."""
    here = device_rates(torch.device("cuda", 0)) if torch.cuda.is_available() else None
    return here or ASSUMED[card]


def row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def edit(references: int) -> Prepared:
    return square_edit(references=references, prompt=PROMPT)


def carried_out(gigabytes: float) -> dict[str, float]:
    """One pass at one megapixel with one reference, the allocator capped at ``gigabytes``."""
    device, total = torch.device("cuda", 0), int(gigabytes * GIB)
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, total / whole), device)
    host = InsideHost(device="cuda:0")
    _cap(total)
    transformer = _random_transformer(host)
    handle: Any = host.manage(transformer)
    plan = plan_memory(card_model("8-bit"), edit(1), total)
    host.load([handle], plan.sizes.denoise)
    torch.cuda.reset_peak_memory_stats(device)
    seconds = _one_pass(transformer, device)
    return _figures(plan, handle.loaded_bytes, torch.cuda.max_memory_allocated(device), seconds)


def _figures(plan: MemoryPlan, loaded: int, peak: int, seconds: float) -> dict[str, float]:
    return {
        "planned_gib": plan.stays / GIB,
        "loaded_gib": loaded / GIB,
        "peak_gib": peak / GIB,
        "seconds": seconds,
    }


def _cap(total: int) -> None:
    """ComfyUI asks the driver what is free, which knows nothing of the allocator's cap."""
    import comfy.model_management as manager

    def free(_device: Any = None, torch_free_too: bool = False) -> Any:
        left = total - torch.cuda.memory_allocated()
        return (left, left) if torch_free_too else left

    manager.get_free_memory = free


def _random_transformer(host: InsideHost) -> Any:
    """The published transformer in 8 bits in main memory, without its modulation layers."""
    module = real_transformer.__wrapped__()
    take_out(module)
    shared: dict[torch.Size, torch.Tensor] = {}
    tensors = {
        name: shared.setdefault(shape.shape, torch.randn(shape.shape).bfloat16() * 0.02)
        for name, shape in module.state_dict().items()
    }
    kept = host.layers.eight_bit or "int8"
    host.layers.fill(module, tensors, torch.bfloat16, kept, lambda: None)
    return module.eval().requires_grad_(False)


@torch.inference_mode()
def _one_pass(transformer: Any, device: torch.device) -> float:
    """Seconds of the second pass; the first one finds kernels and buffers."""
    blocks, width = len(transformer.transformer_blocks), transformer.inner_dim
    rows = torch.zeros(1, blocks, 1, 6 * width, dtype=torch.bfloat16, device=device)
    Table(rows, rows).select(transformer, 0)
    given: dict[str, Any] = {
        "hidden_states": torch.randn(1, 8192, 64, device=device).bfloat16(),
        "timestep": torch.tensor([0.5], device=device).bfloat16(),
        "encoder_hidden_states": torch.randn(1, 300, 3584, device=device).bfloat16(),
        "encoder_hidden_states_mask": None,
        "img_shapes": [[(1, 64, 64), (1, 64, 64)]],
    }
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        transformer(**given)
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
