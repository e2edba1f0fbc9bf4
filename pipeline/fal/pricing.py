"""What an edit costs, and the artist's limit on it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from ..errors import CostError
from ..geometry import Size

PRICE_PER_MEGAPIXEL = 0.0325
"""US dollars, from fal's endpoint document."""

_PIXELS_PER_MEGAPIXEL = 1_000_000
_REMEMBERED_RUNS = 64


@dataclass(frozen=True)
class Estimate:
    """US dollars, exact and with every picture rounded up to a whole megapixel.

    fal's document does not say which of the two is billed.
    """

    exact: float
    rounded_up: float

    def __str__(self) -> str:
        return f"${self.exact:.4f} to ${self.rounded_up:.4f}"


def estimate(picture: Size, num_images: int) -> Estimate:
    """The price of ``num_images`` results of the size ``picture``."""
    megapixels = picture.area / _PIXELS_PER_MEGAPIXEL
    price = PRICE_PER_MEGAPIXEL * num_images
    return Estimate(megapixels * price, math.ceil(megapixels) * price)


def cost_of(units: float | None) -> float | str:
    """What fal says it billed, in US dollars; "unknown" where it does not say."""
    return "unknown" if units is None else round(units * PRICE_PER_MEGAPIXEL, 6)


class Budget:
    """What the edits of each run may still cost, over all nodes and list elements."""

    def __init__(self) -> None:
        self._reserved: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def reserve(self, run_id: str, price: Estimate, max_cost: float) -> None:
        """Set ``price`` aside, or raise ``CostError`` and set nothing aside."""
        with self._lock:
            already = self._reserved.get(run_id, 0.0)
            total = already + price.rounded_up
            if total > max_cost:
                raise CostError(
                    f"This edit may cost {price}; with ${already:.2f} of this run that is more "
                    f"than max_cost ${max_cost:.2f}.",
                    "Raise max_cost, or lower num_images or the size.",
                )
            self._reserved[run_id] = total
            if len(self._reserved) > _REMEMBERED_RUNS:
                self._reserved.popitem(last=False)


budget = Budget()
"""One for the process: a run's nodes share it."""
