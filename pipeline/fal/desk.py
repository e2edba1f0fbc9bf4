"""What every step of one edit on fal works with."""

from __future__ import annotations

from dataclasses import dataclass

from ..host import RemoteHost
from .journal import Journal, Order, Visit
from .protocol.client import FalClient


@dataclass(frozen=True)
class Desk:
    """One edit node's stay: whom it talks to, where it writes, what it wants."""

    client: FalClient
    journal: Journal
    host: RemoteHost
    order: Order
    visit: Visit
