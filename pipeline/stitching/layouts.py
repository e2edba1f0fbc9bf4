"""From pictures' sizes to composites: which picture lies where, in whole pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..boxes import Box
from ..geometry import CELL, MEGAPIXEL, Size
from .grouping import Group, divide
from .trees import Tree, aspect_of
from .words import Step, where

FREEDOM = 0.04
"""How far the sides of a composite may be from those of exactly a megapixel, as a share of them."""


@dataclass(frozen=True)
class Tile:
    """Picture ``number`` (from 1) fills ``box``; ``path`` leads to it from the whole composite."""

    number: int
    box: Box
    path: tuple[Step, ...] = ()

    def where(self, chinese: bool = False) -> str:
        """In words; "" for a picture alone."""
        return where(self.path, chinese)


@dataclass(frozen=True)
class Composite:
    """``tiles`` in reading order cover ``size`` without gap or overlap."""

    size: Size
    tiles: tuple[Tile, ...]


def plan(sizes: Sequence[Size], background: bool) -> tuple[Composite, Composite, Composite]:
    """Three composites of pictures of ``sizes``, four or more of them.

    With ``background`` the first composite is the first picture as it is. Every other composite has
    about a megapixel and holds its pictures in their order, left to right and top to bottom. Each
    side of a tile is within a pixel of its exact length; that is all a picture is ever stretched.
    """
    alone = 1 if background else 0
    aspects = [size.width / size.height for size in sizes]
    groups = divide(aspects[alone:], 3 - alone)
    whole = [_as_it_is(size) for size in sizes[:alone]]
    composites = [_composite(group, aspects[alone:], alone) for group in groups]
    first, second, third = [*whole, *composites]
    return first, second, third


def _as_it_is(size: Size) -> Composite:
    return Composite(size, (Tile(1, Box(0, 0, size.width, size.height)),))


def _composite(group: Group, aspects: Sequence[float], before: int) -> Composite:
    """``group`` and ``aspects`` count from the first picture after those ``before`` it."""
    own = [aspects[picture] for picture in group.pictures]
    aspect = aspect_of(group.tree, own)
    width = _width(aspect)
    height = width / aspect
    tiles = tuple(
        Tile(group.pictures[place] + before + 1, box, path)
        for place, box, path in _place(group.tree, own, (0.0, 0.0, width, height), ())
    )
    return Composite(Size(round(width), round(height)), tiles)


def _width(aspect: float) -> float:
    """Of about a megapixel in ``aspect``, not rounded.

    One side is a multiple of 16 and the other misses one by as little as can be. The edit takes a
    reference of about a megapixel as it is, and repeats its edge up to a multiple of 16: what is
    missing here is made up there.
    """
    exact = math.sqrt(MEGAPIXEL * aspect)
    widths: list[float] = [*_whole_cells(exact)]
    widths += [height * aspect for height in _whole_cells(exact / aspect)]

    def missing(width: float) -> tuple[float, float]:
        strips = (-round(side) % CELL / side for side in (width, width / aspect))
        return sum(strips), abs(width - exact)

    return min([*widths, exact], key=missing)


def _whole_cells(length: float) -> list[int]:
    low, high = length * (1 - FREEDOM) / CELL, length * (1 + FREEDOM) / CELL
    return [CELL * cells for cells in range(math.ceil(low), math.floor(high) + 1)]


_Edges = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels. Neighbours share the very number, so both round it alike."""


def _place(
    tree: Tree, aspects: Sequence[float], edges: _Edges, path: tuple[Step, ...]
) -> Iterator[tuple[int, Box, tuple[Step, ...]]]:
    if isinstance(tree, int):
        yield tree, Box(*map(round, edges)), path
        return
    across = tree.kind == "row"
    shapes = [aspect_of(part, aspects) for part in tree.parts]
    inner = _cut(edges, across, shapes)
    for index, (part, own) in enumerate(zip(tree.parts, inner, strict=True)):
        yield from _place(part, aspects, own, (*path, Step(across, index, len(inner))))


def _cut(edges: _Edges, across: bool, shapes: Sequence[float]) -> list[_Edges]:
    """``edges`` in parts of the aspects ``shapes``, left to right or top to bottom."""
    left, top, right, bottom = edges
    if across:
        return [(start, top, end, bottom) for start, end in _ends(left, right, shapes)]
    lengths = [1 / shape for shape in shapes]
    return [(left, start, right, end) for start, end in _ends(top, bottom, lengths)]


def _ends(start: float, end: float, lengths: Sequence[float]) -> list[tuple[float, float]]:
    scale = (end - start) / sum(lengths)
    inner = [start + scale * sum(lengths[:index]) for index in range(1, len(lengths))]
    return list(pairwise([start, *inner, end]))
