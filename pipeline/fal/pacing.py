"""How long fal works at an edit, judged by those it has finished for this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..pace import Paces
from ..preparation import Prepared
from .protocol.answers import State

_paces = Paces()


class RunPace:
    """The time between fal's words that it has begun and that it is done.

    It grows about as the tokens do that a step works at: those of the canvas and those of the
    references, which fal brings to a megapixel each. Only what was watched as a ``whole`` tells
    how long it takes.
    """

    def __init__(
        self, prepared: Prepared, whole: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        request = prepared.request
        megapixels = prepared.plan.canvas.area / 1_000_000 + len(request.references)
        self._work = request.num_images * request.num_inference_steps * megapixels
        self._kind = (request.acceleration, request.guidance_scale > 1)
        self._whole = whole
        self._clock = clock
        self._began: float | None = None
        known = _paces.of(self._kind)
        self.expected_s = None if known is None else known * self._work

    def note(self, state: State) -> None:
        """fal says that the job is in ``state``."""
        if state == "IN_PROGRESS" and self._whole and self._began is None:
            self._began = self._clock()
        if state == "COMPLETED" and self._began is not None:
            _paces.remember(self._kind, (self._clock() - self._began) / self._work)
            self._began = None
