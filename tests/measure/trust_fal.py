"""Wrong answers of fal and damaged pictures, made at random for minutes.

Every answer of a loopback fal is made wrong in some way, and an artist queues the edit again; every
kind of picture file is damaged and read. Prints what was tried and what broke a rule; with the seed
and the number of a trial it can be had again. Exit status 1 where a rule was broken.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import torch

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.errors import ResultError  # noqa: E402
from firered_edit.pipeline.images import decode  # noqa: E402
from support.fuzz_pictures import damaged, files, gradient, no_pictures  # noqa: E402
from support.fuzz_trials import Fuzz, Met, fuzzing  # noqa: E402

MEBIBYTE = 1024 * 1024
WARM = 100
"""Trials after which the process should not grow any more."""

GROWTH = 64 * MEBIBYTE
PICTURES_A_TRIAL = 20
SHOWN = 20
"""Failures that are printed in full."""


class Tally:
    """What was tried, and what came of it."""

    def __init__(self) -> None:
        self.trials: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest = 0.0

    def note(self, met: Met) -> None:
        self.trials[met.phase] += 1
        self.ways[met.way] += 1
        self.outcomes[met.outcomes[0]] += 1
        self.slowest = max(self.slowest, met.seconds)
        if met.broken:
            self.failures.append(str(met))

    def note_picture(self, data: bytes) -> None:
        try:
            decode(data)
            self.pictures["read"] += 1
        except ResultError:
            self.pictures["refused"] += 1
        except Exception as error:  # noqa: BLE001 - that there is none is what is asked
            self.pictures["failed"] += 1
            self.failures.append(f"picture {data[:40]!r}: {error!r:.200}")


def main() -> int:
    options = _options()
    _count_memory_truly()
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    sys.stdout.write(f"seed {options.seed}\n")
    tally, began = Tally(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="firered-trust-") as folder,
        fuzzing(Path(folder) / "data", options.seed) as fuzz,
    ):
        memory = [_memory()]
        for number in _numbers(options, began):
            _try(tally, fuzz, number)
            if number == WARM:
                memory.append(_memory())
        memory.append(_memory())
    _tell(tally, memory, time.monotonic() - began)
    grown = len(memory) > 2 and memory[-1] - memory[1] > GROWTH
    return int(bool(tally.failures) or grown)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", type=int, metavar="TRIAL", help="the one trial of this number")
    return parser.parse_args()


def _numbers(options: argparse.Namespace, began: float) -> Iterator[int]:
    if options.only is not None:
        yield options.only
        return
    number = 0
    while time.monotonic() - began < 60 * options.minutes:
        yield number
        number += 1


def _try(tally: Tally, fuzz: Fuzz, number: int) -> None:
    tally.note(fuzz.meet(number))
    rng = random.Random(f"{fuzz.seed} picture {number}")
    good = list(files(gradient(rng.randrange(1, 64), rng.randrange(1, 64))).values())
    for _ in range(PICTURES_A_TRIAL):
        tally.note_picture(damaged(rng.choice(good), rng))
    tally.note_picture(damaged(rng.choice([*no_pictures().values(), *good]) or b"..", rng))


def _count_memory_truly() -> None:
    """Let all threads share one heap, where the C library is glibc.

    Each of the many short ones would else leave a heap of its own behind, which looks like growth.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _tell(tally: Tally, memory: list[int], seconds: float) -> None:
    lines = {
        "wrong answers": f"{tally.trials.total()}: {_counts(tally.trials)}",
        "kinds": _counts(tally.ways),
        "first runs": _counts(tally.outcomes),
        "pictures": f"{tally.pictures.total()}: {_counts(tally.pictures)}",
        "seconds": f"{seconds:.0f}, slowest trial {tally.slowest:.1f}",
        "memory": " > ".join(f"{each / MEBIBYTE:.0f} MiB" for each in memory),
        "failures": str(len(tally.failures)),
    }
    for name, value in lines.items():
        sys.stdout.write(f"{name:<14} {value}\n")
    for failure in tally.failures[:SHOWN]:
        sys.stdout.write(f"{failure}\n")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


if __name__ == "__main__":
    raise SystemExit(main())
