"""What makes two edits on fal the same edit."""

from __future__ import annotations

from collections.abc import Sequence

from ..preparation import Prepared
from .journal import Order, Shape
from .keys import account_of
from .payload import FalOptions, build_payload
from .pricing import Estimate
from .protocol.history import payload_digest
from .protocol.hosts import ENDPOINT

KEY_VERSION = 1
"""Changes where the same inputs come to mean other pictures."""


def order_of(
    prepared: Prepared,
    options: FalOptions,
    digests: Sequence[str],
    key: str,
    price: Estimate,
) -> Order:
    """The order of an edit whose references, as they are sent, have these ``digests``.

    Neither the fal key nor an address decides a picture, nor does ``sync_mode``, which is a way of
    travelling.
    """
    decisive = build_payload(prepared, options, [])
    del decisive["sync_mode"]
    decisive |= {
        "version": KEY_VERSION,
        "endpoint": ENDPOINT,
        "image_urls": list(digests),
    }
    seedless = {name: value for name, value in decisive.items() if name != "seed"}
    return Order(
        key=payload_digest(decisive),
        family=payload_digest(seedless),
        seed=prepared.request.seed,
        prompt=prepared.request.prompt,
        account=account_of(key),
        price=price.rounded_up,
        shape=Shape.of(prepared.plan),
    )
