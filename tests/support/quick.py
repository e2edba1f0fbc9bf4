"""Edits in a fraction of a second, for tests that run many of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from support.pack import load_pack

load_pack()

from firered_edit.pipeline.local import encoding  # noqa: E402 - needs the pack


@contextmanager
def quick_edits() -> Iterator[None]:
    """The text encoder sees pictures of 64 x 64 pixels, and everything runs on one thread.

    Reading the pictures is most of a tiny edit. A second thread gains it nothing, and waiting for
    one on a busy machine takes several times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoding, "CONDITION_AREA", 64 * 64)
            yield
    finally:
        torch.set_num_threads(threads)
