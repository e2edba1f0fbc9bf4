"""Checks of single values, the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InputError


def check_range(name: str, value: float, allowed: tuple[float, float]) -> None:
    """Raise ``InputError`` unless ``value`` lies within ``allowed``; NaN never does."""
    low, high = allowed
    if not low <= value <= high:
        raise InputError(f"{name} is {value}.", f"Choose a value from {low} to {high}.")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``InputError`` unless ``value`` is one of ``allowed``: a link may bring any text."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}.", f"Choose {', '.join(allowed)}.")
