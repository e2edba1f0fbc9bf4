"""What reference pictures cost on their way to fal: milliseconds, bytes, and both over a long line.

Three ways to encode a picture stand side by side in every round: Pillow's default PNG, which other
nodes send, our lossless PNG, and `jpeg 95`. Then pictures of a megapixel go to the storage of a
loopback fal through a relay that makes the line long and narrow: Pillow's default one after the
other, and ours as an edit sends them. Shown are medians and, in brackets, the least and the most.

A photo at its own size is laid out as mirror images, so that it keeps its grain; enlarged, a photo
is smoother than cameras make them.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

from doubles.fal_server import FalServer
from support.pack import load_pack
from support.slow_line import SlowLine

load_pack()

from firered_edit.pipeline.fal.protocol.transport import new_session  # noqa: E402
from firered_edit.pipeline.fal.uploads import encoded, sending  # noqa: E402
from firered_edit.pipeline.fal.uploads.sending import Picture, Sender  # noqa: E402
from firered_edit.pipeline.fal.uploads.storage import Storage  # noqa: E402
from firered_edit.pipeline.images import Pixels, encode_jpeg, encode_png  # noqa: E402

ROUND_TRIP_S, MEGABITS = 0.04, 50.0
COUNTS = (1, 4, 10)
SIDES = (1024, 2048)


@dataclass(frozen=True)
class Figure:
    """Milliseconds over the rounds, and the bytes that came out."""

    median: float
    least: float
    most: float
    size: int

    def __str__(self) -> str:
        return f"{self.median:.0f} ({self.least:.0f}-{self.most:.0f})"


def figure(seconds: Sequence[float], size: int) -> Figure:
    times = [1000 * each for each in seconds]
    return Figure(statistics.median(times), min(times), max(times), size)


def pillow_default(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


ENCODERS: dict[str, Callable[[Pixels], bytes]] = {
    "Pillow's PNG": pillow_default,
    "our PNG": encode_png,
    "jpeg 95": encode_jpeg,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    encoding = [
        {"picture": name, "side": side, **measure_encoding(draw(side), options.rounds)}
        for side in SIDES
        for name, (draw, largest) in PICTURES.items()
        if side <= largest
    ]
    sys.stdout.write(encoding_table(encoding))
    sending_rows = list(measure_sending(grain(SIDES[0]), options.rounds))
    sys.stdout.write("\n" + sending_table(sending_rows))
    if options.json:
        options.json.write_text(
            json.dumps({"encoding": encoding, "sending": sending_rows}, default=asdict, indent=2)
        )
    return 0


def enlarged(side: int) -> Pixels:
    return np.asarray(
        Image.fromarray(data.chelsea()).resize((side, side), Image.Resampling.LANCZOS)
    )


def grain(side: int) -> Pixels:
    photo = data.astronaut()
    short = side - photo.shape[0]
    return np.ascontiguousarray(np.pad(photo, ((0, short), (0, short), (0, 0)), "symmetric"))


def graphic(side: int) -> Pixels:
    """Flat areas, sharp edges and lettering."""
    picture = Image.new("RGB", (side, side), "#f4efe6")
    draw = ImageDraw.Draw(picture)
    for number in range(24):
        left, top = side * (number % 6) // 6, side * (number // 6) // 4
        colour = (number * 37 % 256, number * 91 % 256, number * 151 % 256)
        draw.rounded_rectangle((left, top, left + side // 8, top + side // 6), 12, colour)
        draw.text((left + 8, top + 8), f"label {number}", "white", font_size=side // 48)
    return np.asarray(picture)


PICTURES: dict[str, tuple[Callable[[int], Pixels], int]] = {
    "photo, enlarged": (enlarged, 2048),
    # Beyond that the mirror images come again within a row, and a packer finds them.
    "photo, own grain": (grain, 1024),
    "flat graphic": (graphic, 2048),
}
"""How to draw each, and up to which side."""


def measure_encoding(pixels: Pixels, rounds: int) -> dict[str, Figure]:
    seconds: dict[str, list[float]] = {name: [] for name in ENCODERS}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, encode in ENCODERS.items():
            began = time.perf_counter()
            sizes[name] = len(encode(pixels))
            seconds[name].append(time.perf_counter() - began)
    return {name: figure(seconds[name], sizes[name]) for name in ENCODERS}


class _Forgetful:
    """Remembers no address: every round uploads."""

    def uploaded(self, digest: str, storage: str) -> str | None:
        return None

    def remember_upload(self, digest: str, storage: str, url: str, expires_at: float) -> None:
        """Let it go."""

    def forget_uploads(self, urls: Sequence[str]) -> None:
        """There is nothing to forget."""


class _NarrowLine(SlowLine):
    """A long line whose connections share ``megabits`` a second."""

    def __init__(self, target: int, round_trip_s: float, megabits: float) -> None:
        super().__init__(target, round_trip_s)
        self._bytes_per_s = megabits * 1e6 / 8
        self._turn = threading.Lock()
        self._free_at = 0.0

    def pass_through(self, size: int) -> None:
        with self._turn:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_per_s
            until = self._free_at
        self._until(until)

    def _carry(self, source: socket.socket, target: socket.socket, earliest: float) -> None:
        super()._carry(_Narrow(source, self), target, earliest)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Narrow:
    source: socket.socket
    line: _NarrowLine

    def recv(self, size: int) -> bytes:
        received = self.source.recv(min(size, 16 * 1024))
        self.line.pass_through(len(received))
        return received


@contextmanager
def storage() -> Iterator[Storage]:
    """The storage of a loopback fal at the end of the line, with a token and a warm connection."""
    with FalServer() as server, _NarrowLine(server.port, ROUND_TRIP_S, MEGABITS) as line:
        rest = f"http://127.0.0.1:{line.port}"
        with new_session() as session:
            session.trust_env = False
            ready = Storage(server.key, rest, lambda url: url, session, _Forgetful())
            ready.store("", "png", b"warm", lambda: False)
            yield ready


def measure_sending(picture: Pixels, rounds: int) -> Iterator[dict[str, Any]]:
    # Some would fit into the request: here all take the longer way, to compare like with like.
    sending.INLINE_LIMIT = 0
    ways: dict[str, Callable[[Storage, list[Pixels]], int]] = {
        "Pillow's PNG, one by one": one_by_one,
        "our PNG": lambda to, pictures: together(to, pictures, "lossless"),
        "jpeg 95": lambda to, pictures: together(to, pictures, "jpeg 95"),
    }
    with storage() as ready:
        for count in COUNTS:
            pictures = [np.roll(picture, number, axis=1) for number in range(count)]
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            sizes: dict[str, int] = {}
            for _ in range(rounds):
                for name, way in ways.items():
                    # Every round is the first: ours would find its pictures encoded.
                    encoded.encoded.clear()
                    began = time.perf_counter()
                    sizes[name] = way(ready, pictures)
                    seconds[name].append(time.perf_counter() - began)
            yield {
                "pictures": count,
                **{name: figure(seconds[name], sizes[name]) for name in ways},
            }


def one_by_one(to: Storage, pictures: list[Pixels]) -> int:
    size = 0
    for number, pixels in enumerate(pictures):
        png = pillow_default(pixels)
        to.store(str(number), "png", png, lambda: False)
        size += len(png)
    return size


def together(to: Storage, pictures: list[Pixels], quality: Any) -> int:
    wanted = [Picture.of(pixels, quality) for pixels in pictures]
    sent = Sender(to, quality).addresses(wanted, 0, lambda: False, lambda done, total: None)
    return sent.uploaded_bytes


def encoding_table(rows: list[dict[str, Any]]) -> str:
    first, *others = ENCODERS
    lines = [
        f"encoding, ms and MB, times as fast as {first} and share of its bytes",
        "",
        f"| picture | {first} | {' | '.join(others)} |",
        "|---" * (len(ENCODERS) + 1) + "|",
    ]
    for row in rows:
        name = f"{row['picture']}, {row['side']}x{row['side']}"
        lines.append(_line(name, row[first], [row[other] for other in others]))
    return "\n".join(lines) + "\n"


def sending_table(rows: list[dict[str, Any]]) -> str:
    first, *others = [name for name in rows[0] if name != "pictures"]
    lines = [
        f"encoding and uploading pictures of a megapixel over {1000 * ROUND_TRIP_S:.0f} ms and "
        f"{MEGABITS:.0f} Mbit/s, ms and MB",
        "",
        f"| pictures | {first} | {' | '.join(others)} |",
        "|---" * (len(others) + 2) + "|",
    ]
    for row in rows:
        lines.append(_line(str(row["pictures"]), row[first], [row[other] for other in others]))
    return "\n".join(lines) + "\n"


def _line(name: str, first: Figure, others: list[Figure]) -> str:
    cells = [f"{first}, {first.size / 1e6:.2f}"]
    for other in others:
        ratio = f"{first.median / other.median:.1f}x, {other.size / first.size:.0%}"
        cells.append(f"{other}, {other.size / 1e6:.2f}: {ratio}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
