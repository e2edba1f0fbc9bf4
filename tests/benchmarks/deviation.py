"""What every acceleration changes in the picture, against the reference mathematics."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from benchmarks.scale import KINDS
from benchmarks.task import Contestant, task

if TYPE_CHECKING:
    from benchmarks.hosting import ComfyBenchHost, PlainBenchHost
    from benchmarks.scale import Scale

GUIDED = KINDS[0]


@dataclass(frozen=True)
class _Result:
    latents: Tensor
    picture: Tensor
    said: dict[str, Any]


class Deviations:
    """Collects, seed by seed, how far ``others`` are from ``reference``."""

    def __init__(
        self,
        reference: Contestant,
        others: Sequence[Contestant],
        host: ComfyBenchHost | PlainBenchHost,
        scale: Scale,
    ) -> None:
        self._reference = reference
        self._host = host
        self._scale = scale
        self._found: dict[Contestant, list[tuple[_Result, _Result]]] = {
            other: [] for other in others
        }

    def run(self, seed: int) -> None:
        exact = _run(self._reference, self._host, self._scale, seed)
        for other, pairs in self._found.items():
            pairs.append((exact, _run(other, self._host, self._scale, seed)))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The worst over all seeds, and the mean of the means.

        Latents have a standard deviation of about one; pictures are measured in steps of 8 bits.
        """
        return [_row(other, pairs) for other, pairs in self._found.items()]


def _run(
    contestant: Contestant, host: ComfyBenchHost | PlainBenchHost, scale: Scale, seed: int
) -> _Result:
    host.keeps = True
    try:
        done = contestant.edit(task(scale, 1, GUIDED, scale.steps[GUIDED], seed), lambda: None)
    finally:
        host.keeps = False
    assert host.latents is not None
    return _Result(host.latents.float().cpu(), done.picture, done.said)


def _row(contestant: Contestant, pairs: Sequence[tuple[_Result, _Result]]) -> dict[str, Any]:
    latents = [_differences(other.latents, exact.latents) for exact, other in pairs]
    pictures = [_differences(other.picture * 255, exact.picture * 255) for exact, other in pairs]
    return {
        "contestant": f"{contestant.name}, {contestant.precision}",
        "seeds": str(len(pairs)),
        "latents, most": f"{max(most for most, _ in latents):.3f}",
        "latents, RMS": f"{statistics.mean(rms for _, rms in latents):.4f}",
        "picture, most of 255": f"{max(most for most, _ in pictures):.1f}",
        "picture, RMS of 255": f"{statistics.mean(rms for _, rms in pictures):.2f}",
        "said": "; ".join(sorted({_approximation(other) for _, other in pairs})),
    }


def _approximation(result: _Result) -> str:
    return str(result.said.get("approximation", "no approximation"))


def _differences(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The greatest and the root mean square."""
    difference = one - other
    return float(difference.abs().max()), float((difference**2).mean().sqrt())
