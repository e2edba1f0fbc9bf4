"""A loaded model, as the loader hands it to the edit nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from ..host import Handle
from .caches import Cache

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import Qwen2VLProcessor

Precision = Literal["auto", "bf16", "fp8", "int8"]
PRECISIONS: tuple[Precision, ...] = ("auto", "bf16", "fp8", "int8")


@dataclass(frozen=True)
class LoraUse:
    """A LoRA that was added: file name, strength, and how many of its layers found their place."""

    name: str
    strength: float
    matched: int
    total: int

    def __str__(self) -> str:
        part = "" if self.matched == self.total else f", {self.matched} of {self.total} layers"
        return f"{self.name} at {self.strength:g}{part}"


@dataclass(frozen=True)
class OwnSchedule:
    """What a distilled LoRA was trained for; it replaces the widgets of the edit node."""

    source: str
    steps: int
    guidance_scale: float
    shift: float

    def __str__(self) -> str:
        return f"sets {self.steps} steps and guidance {self.guidance_scale:g}"


@dataclass(frozen=True)
class FireRedModel:
    """Modules under the host's memory management, and what goes with them.

    ``modulation`` is the third of the transformer that only depends on the timestep; it computes a
    table and never needs to be on the device whole. ``name`` is shown in receipts and holds no
    path; ``dtype`` is that of the mathematics, ``precision`` says how the weights are stored.
    Copies with LoRAs share modules and cache.
    """

    name: str
    transformer: Handle
    modulation: Handle
    text_encoder: Handle
    vae: Handle
    scheduler: FlowMatchEulerDiscreteScheduler
    processor: Qwen2VLProcessor
    dtype: torch.dtype
    precision: str
    cache: Cache
    loras: tuple[LoraUse, ...] = ()
    schedule: OwnSchedule | None = None

    @property
    def patcher(self) -> object:
        """What ComfyUI's cache asks of an output to know it for a model."""
        return self.transformer.managed

    def get_models(self) -> list[object]:
        """What ComfyUI asks of an output to see the models it keeps alive."""
        return [handle.managed for handle in self._handles()]

    def _handles(self) -> Iterable[Handle]:
        return (self.transformer, self.modulation, self.text_encoder, self.vae)

    def with_lora(
        self, handles: tuple[Handle, ...], use: LoraUse, schedule: OwnSchedule | None
    ) -> FireRedModel:
        """A copy whose transformer and modulation are ``handles``."""
        transformer, modulation = handles
        return replace(
            self,
            transformer=transformer,
            modulation=modulation,
            loras=(*self.loras, use),
            schedule=schedule or self.schedule,
        )
