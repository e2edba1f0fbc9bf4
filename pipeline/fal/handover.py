"""From what fal returned to what the artist asked for."""

from __future__ import annotations

from typing import Any

import torch

from ..canvas import restore
from ..errors import FlaggedError
from ..images import Pixels, check_shown, to_tensor
from ..preparation import Prepared, Stopwatch
from ..request import EditResult
from .finishing import Finished
from .journal import Entry
from .payload import FalOptions
from .pricing import cost_of
from .protocol.answers import Answer
from .protocol.hosts import ENDPOINT
from .uploads.sending import Sent


class Handover:
    """One finished job on its way to the artist."""

    def __init__(
        self, prepared: Prepared, options: FalOptions, entry: Entry, done: Finished
    ) -> None:
        self._prepared = prepared
        self._options = options
        self._entry = entry
        self._done = done

    def result(self, source: str, sent: Sent | None, watch: Stopwatch) -> EditResult:
        """``source`` is where the pictures come from: "fal", "attached" or "disk"."""
        if not self._done.pictures:
            raise FlaggedError(
                "fal's safety checker withheld every picture.",
                "Change the prompt or the pictures; the edit was billed.",
            )
        with watch.phase("restore"):
            images = torch.stack([self._restored(pixels) for pixels in self._done.pictures])
        answer, request = self._done.answer, self._prepared.request
        seed = request.seed if answer.seed is None else answer.seed
        receipt = self._prepared.receipt("fal", ENDPOINT, [seed])
        receipt.notices += self.notices(source)
        receipt.timings_s = watch.seconds
        receipt.details = self._details(answer, source, sent)
        return EditResult(images, seed, receipt)

    def _restored(self, pixels: Pixels) -> torch.Tensor:
        picture = to_tensor(pixels)
        check_shown(picture)
        return restore(picture, self._prepared.plan)

    def notices(self, source: str) -> list[str]:
        """What the artist reads besides: what was withheld, and what was not paid again."""
        withheld = [
            f"the safety checker withheld picture {number}"
            for number, flag in enumerate(self._done.answer.flagged, 1)
            if flag
        ]
        return withheld + [_SOURCES[source]] if source in _SOURCES else withheld

    def summary(self, source: str) -> str:
        """The text that stays on the node."""
        lines = [self._prepared.summary(), *self.notices(source), self._cost(source)]
        return "\n".join(lines)

    def _cost(self, source: str) -> str:
        cost = cost_of(self._done.answer.units)
        amount = cost if isinstance(cost, str) else f"${cost:.4f}"
        return f"cost {amount}" if source == "fal" else f"cost {amount}, once"

    def _details(self, answer: Answer, source: str, sent: Sent | None) -> dict[str, Any]:
        return {
            "request_id": self._entry.request_id,
            "prompt_used": answer.prompt,
            "fal_timings": answer.timings,
            "returned": [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in self._done.pictures],
            "billed_units": "unknown" if answer.units is None else answer.units,
            "cost_usd": cost_of(answer.units),
            "source": source,
            "pictures_uploaded": sent.uploaded if sent else 0,
            "bytes_uploaded": sent.uploaded_bytes if sent else 0,
            "enable_safety_checker": self._options.enable_safety_checker,
            "output_format": self._options.output_format,
            "sync_mode": self._options.sync_mode,
            "upload_quality": self._options.upload_quality,
        }


_SOURCES = {
    "disk": "taken from this machine's disk: it was paid for before, and is not billed again",
    "attached": "this edit was already at fal: it is billed once",
}
