"""A comparison in words, and as JSON."""

from __future__ import annotations

import json
from typing import Any

from .comparing import Comparison
from .measuring import Drift

_SHOWN = 8
"""Pictures that a node has room for."""


def describe(comparison: Comparison) -> str:
    """What an artist reads on the node: a line for each picture, then what else was done."""
    count = len(comparison.drifts)
    names = [f"picture {number}: " if count > 1 else "" for number in range(1, count + 1)]
    lines = [
        name + in_words(drift, comparison.masked)
        for name, drift in zip(names, comparison.drifts, strict=True)
    ]
    if count > _SHOWN:
        lines[_SHOWN:] = [f"and {count - _SHOWN} more, in the report"]
    return "\n".join([*lines, *notices(comparison)])


def in_words(drift: Drift, masked: bool) -> str:
    """One line: shift, scale, colour, and what they rest on."""
    moved = f"shift and scale not measurable: {drift.unmeasured}"
    if not drift.unmeasured:
        shift = ", ".join(_rounded(value, ".2f") for value in drift.shift)
        moved = f"shift {shift} px · scale {drift.scale:.4f}"
    colour = " ".join(_rounded(value, "+.1f") for value in drift.colour)
    where = ", outside the mask" if masked else ""
    rest = f" · rests on {drift.agreement:.0%} of the texture" if 0 < drift.agreement < 0.5 else ""
    return f"{moved} · colour {colour} of 255 · ΔE {drift.delta_e:.1f}{where}{rest}"


def notices(comparison: Comparison) -> list[str]:
    """What was done to the pictures beside measuring them."""
    told = []
    if comparison.after != comparison.before:
        told.append(f"after was scaled from {comparison.after} to {comparison.before} first")
    if comparison.images is not None:
        told.append("shift and scale are undone where they can be told; colours stay as they are")
    return told


def to_json(comparison: Comparison) -> str:
    """The comparison as indented JSON, keys in reading order."""
    report = {
        "before": str(comparison.before),
        "after": str(comparison.after),
        "outside_mask": comparison.masked,
        "aligned": comparison.images is not None,
        "notices": notices(comparison),
        "pictures": [_entry(drift) for drift in comparison.drifts],
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


def _entry(drift: Drift) -> dict[str, Any]:
    told = not drift.unmeasured
    red, green, blue = (round(value, 3) for value in drift.colour)
    return {
        "shift_x_px": round(drift.shift[0], 4) if told else None,
        "shift_y_px": round(drift.shift[1], 4) if told else None,
        "scale": round(drift.scale, 6) if told else None,
        "not_measured": drift.unmeasured or None,
        "red_change_of_255": red,
        "green_change_of_255": green,
        "blue_change_of_255": blue,
        "delta_e_76": round(drift.delta_e, 3),
        "share_of_texture_that_agrees": round(drift.agreement, 3),
        "share_of_picture_compared": round(drift.area, 3),
    }


def _rounded(value: float, form: str) -> str:
    """``value`` in ``form``, without a minus before zero."""
    text = format(value, form)
    return text if float(text) else format(0.0, form)
