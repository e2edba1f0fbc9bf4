"""What fal fixes, and what a test may choose."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from .pictures import first_reference

APP_ID = "fal-ai/firered-image-edit-v1.1"
USD_PER_UNIT = 0.0325

Rounding = Literal["exact", "floor16", "refit1mp32"]

Runner = Callable[[dict[str, Any], list[Image.Image]], list[Image.Image]]
"""Makes the pictures of one job.

Its first argument is the input with every default filled in, the seed drawn and `image_size`
resolved to the `width` and `height` that are expected back.
"""


@dataclass(kw_only=True, eq=False)
class Settings:
    """Every field may also be changed while the server runs; jobs read them as they go."""

    port: int = 0
    key: str = "5a1e0000-0000-4000-8000-00000000fa15:made-up-secret"
    locked: bool = False
    runner: Runner = first_reference
    rounding: Rounding = "exact"
    queue_seconds: float = 0.0
    """How long strangers' requests keep a job in the queue."""
    queue_ahead: int = 3
    """How many such requests there are when `queue_seconds` is not zero."""
    run_seconds: float = 0.0
    concurrency: int = 40
    """How many jobs of the account run at once."""
    cancellable: bool = False
    """Whether the app obeys a cancellation of a job that is in progress."""
    ping_seconds: float = 15.0
    history_lists_running: bool = True
    """fal does not say whether the request history shows jobs that have not ended."""
