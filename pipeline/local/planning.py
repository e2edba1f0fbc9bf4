"""What of a model stays on a device of a given size, what is streamed, and what a step then takes.

A plan is made before anything is loaded, from sizes alone, by the rule of ComfyUI's model manager:
large layers first, with room for those on their way. What was really loaded only the manager
knows; ``loaded_words`` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..host import Handle
from .costs import TransformerShape, pass_work
from .estimates import GIB, RESERVE_BYTES, Estimate, estimate, layer_bytes, pass_counts

if TYPE_CHECKING:
    from torch import nn

    from ..preparation import Prepared
    from .model import FireRedModel
    from .rates import Rates

STREAMS = 2
"""Layers that ComfyUI brings to the device while one computes."""

ROOM = 1.1
"""ComfyUI makes so much more room for a model than its weights take."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, planned. Of ``transformer``, the weights that a pass reads, ``stays`` do not move.

    ``gives_way`` of them leave the device for the VAE and come back in the next edit. ``passes`` is
    how often a step goes through the weights; ``sizes`` holds activations and tiles.
    """

    transformer: int
    stays: int
    gives_way: int
    encoder: int
    encoder_stays: bool
    vae: int
    vae_stays: bool
    passes: int
    sizes: Estimate

    @property
    def streamed(self) -> int:
        """Bytes that come to the device in every pass."""
        return self.transformer - self.stays

    def words(self) -> dict[str, str]:
        """What the artist is told, and a receipt holds."""
        parts = {
            "transformer": _moves(self.transformer, self.streamed),
            "text encoder": _visits(self.encoder, self.encoder_stays),
            "vae": _visits(self.vae, self.vae_stays),
        }
        if self.gives_way:
            parts["transformer"] += f"; {_gb(self.gives_way)} makes way for decoding"
        return parts


@dataclass(frozen=True)
class StepTime:
    """Seconds that a step computes, and that its weights are on their way at the same time."""

    compute: float
    streaming: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.streaming)

    def __str__(self) -> str:
        slower = ", as fast as weights arrive" if self.streaming > self.compute else ""
        return f"about {self.seconds:.2g} s a step{slower}"


def plan_memory(model: FireRedModel, prepared: Prepared, total: int) -> MemoryPlan:
    """The plan for a device of ``total`` bytes; raises ``SetupError`` where the edit cannot run."""
    sizes = estimate(model, prepared, total)
    usable = total - RESERVE_BYTES
    transformer, encoder, vae = (
        weight_bytes(handle.module) for handle in (model.transformer, model.text_encoder, model.vae)
    )
    stays = staying(model.transformer.module, usable - sizes.denoise)
    beside = usable - stays
    whole = stays == transformer
    return MemoryPlan(
        transformer=transformer,
        stays=stays,
        gives_way=min(stays, max(0, vae + max(sizes.decode, sizes.encode) - beside)),
        encoder=encoder,
        encoder_stays=whole and usable - encoder - vae >= _together(transformer, sizes),
        vae=vae,
        vae_stays=whole and usable - vae >= _together(transformer, sizes),
        passes=_branches(prepared) if not sizes.paired else 1,
        sizes=sizes,
    )


def _together(transformer: int, sizes: Estimate) -> float:
    """What the transformer needs beside a module that is not to be moved for it."""
    loading = ROOM * transformer + sizes.denoise
    return max(loading, transformer + sizes.decode, transformer + sizes.encode)


def staying(module: nn.Module, usable: int) -> int:
    """Bytes of ``module`` that ComfyUI keeps on a device where weights may take ``usable``."""
    layers = sorted(layer_bytes(module), reverse=True)
    whole = sum(layers)
    if whole <= usable:
        return whole
    kept = on_its_way = 0
    for index, layer in enumerate(layers):
        arriving = layer + sum(layers[index + 1 : index + 1 + STREAMS])
        room = max(on_its_way, arriving)
        if kept + layer + room < usable:
            kept += layer
        else:
            on_its_way = room
    return kept


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all weights as they are stored."""
    return sum(layer_bytes(module))


def step_time(model: FireRedModel, prepared: Prepared, plan: MemoryPlan, rates: Rates) -> StepTime:
    """What a step will take at the device's own rates, in bf16 products.

    What lies between products is not counted, nor that 8-bit products are faster.
    """
    transformer: Any = model.transformer.module
    work = pass_work(TransformerShape.of(transformer.config), pass_counts(prepared), tabled=True)
    return StepTime(
        compute=_branches(prepared) * work.total / rates.matrix,
        streaming=plan.passes * plan.streamed / rates.copy,
    )


def _branches(prepared: Prepared) -> int:
    return 2 if prepared.request.guidance_scale > 1 else 1


@runtime_checkable
class Counted(Protocol):
    """A handle whose host tells how much of its module is on the device."""

    @property
    def loaded_bytes(self) -> int:
        """Bytes of weights on the device now."""


def loaded_words(handle: Handle) -> str | None:
    """How much of a module is on the device, by its host's own account, where it gives one."""
    if not isinstance(handle, Counted):
        return None
    whole = weight_bytes(handle.module)
    return _moves(whole, max(0, whole - handle.loaded_bytes))


def _moves(whole: int, streamed: int) -> str:
    if not streamed:
        return f"{_gb(whole)}, all of it stays on the device"
    return f"{_gb(whole)}: {_gb(whole - streamed)} stays, {_gb(streamed)} streamed each pass"


def _visits(whole: int, stays: bool) -> str:
    return f"{_gb(whole)}, {'stays on the device' if stays else 'comes and goes'}"


def _gb(size: int) -> str:
    return f"{size / GIB:.1f} GB"
