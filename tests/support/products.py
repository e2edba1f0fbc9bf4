"""A CPU that passes for a card which multiplies in 8 bits; torch carries it out there as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.inside import bridge


@contextmanager
def fp8_products() -> Iterator[None]:
    """Within this context layers are built as on a card that has fp8."""
    layers = bridge().layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "computes_in", _fp8_too)
        layers._quantised_linear.cache_clear()
        try:
            yield
        finally:
            layers._quantised_linear.cache_clear()


def _fp8_too(form: str, _device: object) -> bool:
    return form.startswith(("float8", "int8"))
