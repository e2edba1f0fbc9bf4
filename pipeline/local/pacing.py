"""The steps of one edit as they are shown: how many, for how long, and for how long yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import LocalHost, Phase
from ..pace import Paces, StepPace
from ..preparation import Prepared
from .latents import grid_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .model import FireRedModel

_paces = Paces()
"""Seconds per step of this process, for edits like each other."""


class Steps:
    """Counts the steps of an edit, over all pictures of its batch; it begins with the first.

    ``predicted`` is what a step should take in seconds, for the first edit of its kind.
    """

    def __init__(
        self,
        model: FireRedModel,
        prepared: Prepared,
        host: LocalHost,
        predicted: float | None = None,
    ) -> None:
        request = prepared.request
        self._host = host
        self._total = request.num_images * request.num_inference_steps
        self._done = 0
        self._kind = _kind(model, prepared, host)
        remembered = _paces.of(self._kind)
        self._pace = StepPace(self._total, predicted if remembered is None else remembered)
        self._tell()

    def step(self) -> None:
        """One more is done."""
        self._pace.step()
        self._done += 1
        self._host.progress(self._done, self._total)
        self._tell()

    def remember(self) -> None:
        """The next edit like this one knows how long it takes before its own steps tell."""
        if self._pace.measured is not None:
            _paces.remember(self._kind, self._pace.measured)

    def _tell(self) -> None:
        text = f"step {self._done}/{self._total}"
        self._host.phase(Phase(text, clock="steps", expected_s=self._pace.expected_s))


def _kind(model: FireRedModel, prepared: Prepared, host: LocalHost) -> Hashable:
    """Whatever decides how long a step takes, prompt and LoRAs left aside."""
    request = prepared.request
    rows, columns = grid_of(prepared.plan.canvas)
    return (
        str(host.device),
        model.name,
        model.precision,
        rows * columns,
        len(request.references),
        request.guidance_scale > 1,
        request.acceleration,
    )
