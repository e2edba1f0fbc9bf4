"""One edit as every contestant is asked for it, and how its time is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.scale import GUIDANCE, Kind, Scale

Precision = Literal["bf16", "8-bit"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "8-bit")

PROMPT = (
    "Put the person of the first picture into a quiet street at dusk, keep the face, the coat "
    "and the light as they are, and let it rain a little, number {number}."
)


@dataclass(frozen=True)
class Task:
    """``number`` makes prompt, pictures and seed new, so that nobody may remember an answer."""

    scale: Scale
    references: int
    steps: int
    guidance: float
    number: int

    @property
    def prompt(self) -> str:
        return PROMPT.format(number=self.number % 10)

    @property
    def pictures(self) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        """Smooth colours, (H, W, 3) each."""
        dice = np.random.default_rng(self.number)
        return [_blurred(dice, self.scale.side) for _ in range(self.references)]


def task(scale: Scale, references: int, kind: Kind, steps: int, number: int) -> Task:
    return Task(scale, references, steps, GUIDANCE[kind], number)


def _blurred(dice: np.random.Generator, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = torch.from_numpy(dice.random((1, 3, 8, 8), np.float32))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0]
    return (fine.clamp(0, 1) * 255).byte().permute(1, 2, 0).contiguous().numpy()


@dataclass
class Clock:
    """Takes the time of an edit. Before each reading the device is waited for."""

    device: torch.device
    began: float = 0.0
    ended: float = 0.0
    steps: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.steps.clear()
        self.began = self._now()

    def step(self) -> None:
        """One step has ended."""
        self.steps.append(self._now())

    def stop(self) -> None:
        self.ended = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()


@dataclass(frozen=True)
class Done:
    """The picture (H, W, 3) of an edit, and what its contestant says of how it was made."""

    picture: Tensor
    said: dict[str, Any] = field(default_factory=dict)


class Contestant(Protocol):
    """One way to carry out edits.

    With ``whole`` the steps it takes depend on how many there are, so none may be extrapolated.
    """

    name: str
    precision: Precision
    whole: bool

    @property
    def weight_bytes(self) -> int:
        """What its weights take on the device while it works."""

    def edit(self, task: Task, on_step: Callable[[], None]) -> Done:
        """Carry out ``task`` and call ``on_step`` after every step."""
