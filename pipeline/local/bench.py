"""What every phase of an edit works with: the model, its host, and what was computed before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..host import Handle, LocalHost, Phase
from .caches import Usage, Value, digest
from .cancelling import check_cancelled

if TYPE_CHECKING:
    from .model import FireRedModel


@dataclass
class Bench:
    """``usage`` counts by kind what was found in the model's cache and what was computed."""

    model: FireRedModel
    host: LocalHost
    usage: dict[str, Usage] = field(default_factory=dict)
    _phase: str = ""

    def bring(self, phase: str, handle: Handle, activation_bytes: int) -> None:
        """Say what begins, and bring the module it needs to the device."""
        check_cancelled(self.host)
        if phase != self._phase:
            self._phase = phase
            self.host.phase(Phase(phase))
        self.host.load([handle], activation_bytes)

    def remembered(
        self, kind: str, content: tuple[object, ...], compute: Callable[[], Value]
    ) -> Value:
        """The tensors that ``content`` decides, in main memory; computed only once."""
        key = digest(kind, str(self.host.device), *content)
        return self.model.cache.get(key, compute, self.usage.setdefault(kind, Usage()))

    def receipt(self) -> dict[str, str]:
        """How often each kind was found instead of computed."""
        return {
            kind: f"{used.hits} of {used.hits + used.misses} from cache"
            for kind, used in self.usage.items()
        }
