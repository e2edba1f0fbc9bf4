"""What an edit costs, and the artist's limit on it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
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


def dollars(units: float | None) -> float | None:
    """What fal says it billed, in US dollars; None where it does not say."""
    return None if units is None else round(units * PRICE_PER_MEGAPIXEL, 6)


def cost_of(units: float | None) -> float | str:
    """The same for a receipt: "unknown" where fal does not say."""
    cost = dollars(units)
    return "unknown" if cost is None else cost


def today() -> float:
    """The last midnight of this machine's clock, in seconds since 1970."""
    return datetime.now().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


class DailyLimit:
    """What may be spent from ``since`` on, in US dollars."""

    def __init__(self, limit: float, since: float) -> None:
        self.limit = limit
        self.since = since

    def check(self, spent: float, price: float) -> None:
        """Raise ``CostError`` where ``price`` does not fit in beside what was ``spent``."""
        if spent + price > self.limit:
            raise CostError(
                f"This edit may cost ${price:.4f}; with ${spent:.2f} of today that is more than "
                f"the daily limit of ${self.limit:.2f}.",
                "Raise it in Settings > FireRed > fal, or go on tomorrow.",
            )


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

    def release(self, run_id: str, price: Estimate) -> None:
        """``price`` will not be charged: nothing was ordered."""
        with self._lock:
            if run_id in self._reserved:
                self._reserved[run_id] = max(0.0, self._reserved[run_id] - price.rounded_up)


budget = Budget()
"""One for the process: a run's nodes share it."""
