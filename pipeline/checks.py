"""Checks of single values, the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from .errors import InputError


def check_range(name: str, value: Any, allowed: tuple[float, float]) -> None:
    """Raise ``InputError`` unless ``value`` lies within ``allowed``; NaN never does.

    Nor does what is no number: a link may bring anything.
    """
    low, high = allowed
    is_number = isinstance(value, Real)
    if not is_number or not low <= value <= high:
        raise InputError(f"{name} is {_shown(value)}.", f"Choose a value from {low} to {high}.")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``InputError`` unless ``value`` is one of ``allowed``: a link may bring any text."""
    if value not in allowed:
        raise InputError(f"{name} is {_shown(value)}.", f"Choose {', '.join(allowed)}.")


def check_kind(name: str, value: object, kind: type, remedy: str) -> None:
    """Raise ``InputError`` unless ``value`` is a ``kind``: some nodes' outputs fit every socket."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {_shown(value)}.", remedy)


def _shown(value: object) -> str:
    """``value`` in a few words: it may be as large as a picture."""
    plain = value is None or isinstance(value, str | Real)
    return f"{value!r:.60}" if plain else f"something else, of the type {type(value).__name__}"
