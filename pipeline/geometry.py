"""Which size an edit has, on which canvas it runs, and the exact way back.

Everything is one uniform scale and padding on the right and bottom edge, never a stretch and never
a crop of the artist's picture. The model works in cells of 16 pixels (8 from the VAE, 2 from the
transformer's patches), so a canvas is a whole number of cells.

*Locked*: the asked aspect is that of the main reference. Main reference and canvas share one grid
and the way back is the exact inverse, so nothing can shift, zoom or change shape.
*Recomposed*: another aspect was asked for; every reference keeps its own grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .checks import check_kind, check_range
from .errors import InputError

CELL = 16
MEGAPIXEL = 1024 * 1024
"""Pixels the model was trained at; the unit of every ``megapixels`` input."""

MAX_ASPECT = 8
MIN_SIDE = 16
MAX_CANVAS_MEGAPIXELS = 16

NEAR = 1 / 8
"""An area this close to the wanted one, as a share of it, is taken as it is: what is not scaled
keeps its pixels exactly. 1280x720 and SDXL's sizes run at one megapixel as they are."""

CUSTOM_SIDES = (64, 8192)
MEGAPIXELS = (0.1, 16.0)

PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
"""fal's size names, width and height in pixels."""


@dataclass(frozen=True)
class Size:
    width: int
    height: int

    @classmethod
    def of(cls, shape: Sequence[int]) -> Size:
        """That of an array or tensor of ``shape`` (height, width, ...)."""
        return cls(shape[1], shape[0])

    @property
    def area(self) -> int:
        return self.width * self.height

    def same_aspect(self, other: Size) -> bool:
        """Whether one is the other scaled, within a pixel of the coarser."""
        scale = min(self.width / other.width, self.height / other.height)
        slack = max(self.width - other.width * scale, self.height - other.height * scale)
        return slack < max(1.0, scale)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class MatchImage:
    """The output has exactly the width and height of reference ``index`` (from 1)."""

    index: int = 1

    def __str__(self) -> str:
        return f"match image {self.index}"


@dataclass(frozen=True)
class Preset:
    """One of ``PRESETS``."""

    name: str

    def __str__(self) -> str:
        return f"preset {self.name}"


@dataclass(frozen=True)
class Custom:
    """An explicit width and height in pixels, ``CUSTOM_SIDES`` each."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"custom {self.width}x{self.height}"


@dataclass(frozen=True)
class Megapixels:
    """The aspect of reference 1 at this area (``MEGAPIXELS``), sides a multiple of 16."""

    megapixels: float

    def __str__(self) -> str:
        return f"megapixels {self.megapixels:g}"


SizePolicy: TypeAlias = MatchImage | Preset | Custom | Megapixels


@dataclass(frozen=True)
class Fit:
    """How a reference is laid on its grid: scaled by ``scale``, then its edge pixels repeated."""

    source: Size
    grid: Size
    scale: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The part of the source plane (left, top, right, bottom) that the grid shows.

        It ends beyond the picture where the grid is padded.
        """
        return (0.0, 0.0, self.grid.width / self.scale, self.grid.height / self.scale)


@dataclass(frozen=True)
class Plan:
    """The whole geometry of one edit.

    ``frame`` is the part of the canvas (width, height from the top left, in pixels, not whole
    numbers) that becomes the output.
    """

    canvas: Size
    frame: tuple[float, float]
    output: Size
    fits: tuple[Fit, ...]
    locked: bool
    notices: tuple[str, ...] = ()


def plan(policy: SizePolicy, sizes: list[Size], working_megapixels: float) -> Plan:
    """Plan an edit of references of ``sizes``; the first is the main one.

    Raises ``InputError`` for a size that no canvas can hold, or a policy that names a missing
    reference.
    """
    main = _main_index(policy, sizes)
    for number, size in enumerate(sizes, 1):
        check_shape(f"Image {number}", size)
    output = _output_size(policy, sizes)
    check_shape("The output", output)
    area = working_megapixels * MEGAPIXEL or output.area
    _check_area(area)
    # Only the megapixels policy rounds sides to cells; elsewhere a pixel off is another aspect.
    tolerance = CELL if isinstance(policy, Megapixels) else 1
    placed = _content_scale(sizes[main], output, tolerance)
    frame_scale = scale_to_area(output, area)
    frame = (output.width * frame_scale, output.height * frame_scale)
    canvas = Size(_cells(frame[0]), _cells(frame[1]))
    fits = tuple(
        Fit(size, canvas, placed * frame_scale)
        if placed and index == main
        else _own_grid(size, min(area, MEGAPIXEL))
        for index, size in enumerate(sizes)
    )
    notices = _notices(output, frame_scale, bool(placed))
    return Plan(canvas, frame, output, fits, bool(placed), notices)


def scale_to_area(size: Size, area: float) -> float:
    """What to scale ``size`` by for about ``area`` pixels: exactly 1 where it is ``NEAR``."""
    largest = MAX_CANVAS_MEGAPIXELS * MEGAPIXEL
    if size.area <= largest and abs(size.area / area - 1) <= NEAR:
        return 1.0
    return math.sqrt(area / size.area)


def _main_index(policy: SizePolicy, sizes: list[Size]) -> int:
    if not isinstance(policy, MatchImage):
        return 0
    check_kind("size index", policy.index, int, "Choose which image the size follows.")
    if not 1 <= policy.index <= len(sizes):
        raise InputError(
            f"The size follows image {policy.index}, but {len(sizes)} connected.",
            "Connect that picture or lower size index.",
        )
    return policy.index - 1


def _output_size(policy: SizePolicy, sizes: list[Size]) -> Size:
    match policy:
        case MatchImage(index):
            return sizes[index - 1]
        case Preset(name):
            return Size(*_preset(name))
        case Custom(width, height):
            check_range("A custom side", width, CUSTOM_SIDES)
            check_range("A custom side", height, CUSTOM_SIDES)
            return Size(width, height)
        case Megapixels(megapixels):
            check_range("megapixels", megapixels, MEGAPIXELS)
            return _whole_cells(sizes[0], megapixels * MEGAPIXEL)


def _whole_cells(size: Size, area: float) -> Size:
    """About ``area`` pixels in the aspect of ``size``, both sides a multiple of 16.

    Of the sizes whose sides are within 4 percent of the wanted ones, the one of the nearest
    aspect: the strip of padding that it needs is the narrowest.
    """
    short, long = sorted((size.width, size.height))
    wanted = long * math.sqrt(area / size.area) / CELL
    candidates = range(math.ceil(wanted * 0.96), math.floor(wanted * 1.04) + 1)

    def strip(cells: int) -> tuple[float, float]:
        exact = short * cells / long
        return (math.ceil(exact - 1e-6) - exact) / cells, abs(cells - wanted)

    scale = CELL * min(candidates, key=strip) / long
    return Size(_cells(size.width * scale), _cells(size.height * scale))


def _preset(name: str) -> tuple[int, int]:
    check_kind("size preset", name, str, f"Choose {', '.join(PRESETS)}.")
    if name not in PRESETS:
        raise InputError(f"There is no size preset {name!r}.", f"Choose {', '.join(PRESETS)}.")
    return PRESETS[name]


def _content_scale(main: Size, output: Size, tolerance: float) -> float:
    """Output pixels per pixel of the main reference, or 0 where the aspect is another.

    The same aspect means: the reference, scaled to touch one side of the output, misses the other
    by less than ``tolerance`` pixels. That strip is padding, not stretch.
    """
    scale = min(output.width / main.width, output.height / main.height)
    slack_x = output.width - main.width * scale
    slack_y = output.height - main.height * scale
    return scale if max(slack_x, slack_y) < tolerance else 0.0


def _own_grid(size: Size, area: float) -> Fit:
    scale = scale_to_area(size, area)
    return Fit(size, Size(_cells(size.width * scale), _cells(size.height * scale)), scale)


def _cells(length: float) -> int:
    # A length that is whole but for rounding noise must not be given another cell.
    return CELL * max(1, math.ceil(length / CELL - 1e-6))


def check_shape(what: str, size: Size) -> None:
    """Raise ``InputError`` where no canvas can hold ``what``: too small, or too long."""
    short, long = sorted((size.width, size.height))
    if short < MIN_SIDE:
        raise InputError(f"{what} is {size} pixels.", f"Both sides must be {MIN_SIDE} or more.")
    if long > MAX_ASPECT * short:
        raise InputError(
            f"{what} is {size} pixels, longer than {MAX_ASPECT}:1.", "Crop it or pad it first."
        )


def _check_area(area: float) -> None:
    if area > MAX_CANVAS_MEGAPIXELS * MEGAPIXEL:
        raise InputError(
            f"The edit would run at {area / MEGAPIXEL:.1f} megapixels.",
            f"Set working_megapixels to {MAX_CANVAS_MEGAPIXELS} or less; 1.0 suits the model.",
        )


def _notices(output: Size, scale: float, locked: bool) -> tuple[str, ...]:
    notices = []
    if not locked:
        notices.append("recomposed, no pixel lock: the output has another aspect than its image")
    if scale < 1:
        whole = output.area / MEGAPIXEL
        notices.append(
            f"runs at {whole * scale**2:.2f} of {whole:.2f} megapixels and is scaled up; where "
            "a part is edited, FireRed Crop Region keeps the detail of the rest"
        )
    return tuple(notices)
