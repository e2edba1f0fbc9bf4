"""Edits in a fraction of a second, for tests that run many of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local import encoding  # noqa: E402 - needs the pack


@contextmanager
def quick_edits() -> Iterator[None]:
    """The text encoder sees pictures of 64 x 64 pixels: reading them is most of a tiny edit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CONDITION_AREA", 64 * 64)
        yield
