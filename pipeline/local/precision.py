"""How the weights of a model lie in memory: the artist's choice against what the card can hold."""

from __future__ import annotations

from collections import Counter

import torch

from ..errors import InputError
from ..host import LocalHost, Storage
from .checkpoints import Checkpoint, weight_keys
from .estimates import GIB, RESERVE_BYTES
from .families import Part
from .gguf_files import PACKED
from .model import Precision

ROOM_BYTES = int(1.8 * GIB)
"""Beside the transformer: a pass at one megapixel with three pictures, and a table of 40 steps."""

_EIGHT_BIT = {"F8_E4M3": "fp8", "F8_E5M2": "fp8", "I8": "int8", "U8": "nvfp4"}


def choose_storage(precision: Precision, transformer: Part, host: LocalHost) -> Storage:
    """How to keep the weights. ``auto`` follows the device's total memory, never what is free.

    Raises ``InputError`` for a precision the files were not stored in and cannot be brought to.
    """
    stored = stored_format(transformer.checkpoint)
    if precision == "bf16":
        return "full" if stored else "stored"  # one model, however it was asked for
    if precision == "auto":
        return "stored" if stored or _fits(transformer, host) else host.layers.eight_bit or "stored"
    if stored and precision != stored:
        raise InputError(
            f"precision is {precision}, but {transformer.checkpoint.name} is stored in {stored}.",
            "Choose auto to use it as it is, or load the bf16 file.",
        )
    return "stored" if stored else precision


def stored_format(checkpoint: Checkpoint) -> str | None:
    """The 8-bit or smaller format most matrices are stored in, if they are.

    GGUF files mix formats; theirs is the one of most packed weights.
    """
    weights = (checkpoint.entries[key] for key in weight_keys(checkpoint))
    matrices = Counter(entry.dtype for entry in weights if len(entry.shape) == 2)
    packed = Counter({dtype: n for dtype, n in matrices.items() if dtype in PACKED})
    ((most, _),) = (packed or matrices).most_common(1) or [("", 0)]
    return most if packed else _EIGHT_BIT.get(most)


def _fits(transformer: Part, host: LocalHost) -> bool:
    return resident_bytes(transformer) + ROOM_BYTES + RESERVE_BYTES <= host.total_memory


def resident_bytes(transformer: Part) -> int:
    """Bytes of the transformer that a pass needs: all but the modulation layers."""
    entries = transformer.checkpoint.entries
    modulation = sum(
        entry.size for key, entry in entries.items() if "img_mod" in key or "txt_mod" in key
    )
    return transformer.checkpoint.size - modulation


def describe_storage(
    storage: Storage, transformer: Part, dtype: torch.dtype, host: LocalHost, multiplied: float
) -> str:
    """What a receipt says: the format, how a choice of ``auto`` came about, what is multiplied.

    ``multiplied`` is the share of the packed weights that the device multiplies as they lie.
    """
    full = str(dtype).removeprefix("torch.")
    stored = stored_format(transformer.checkpoint)
    if storage == "full" or (storage == "stored" and not stored):
        return full
    if storage == "stored":
        return f"{stored}, {_products(str(stored), full, multiplied)}"
    return f"{storage} from {full}{_reason(transformer, host)}, " + _products(
        storage, full, multiplied
    )


def _reason(transformer: Part, host: LocalHost) -> str:
    """Why 8 bits were chosen; nothing where only the artist can have wanted them."""
    if _fits(transformer, host):
        return ""
    needs, has = resident_bytes(transformer) / GIB, host.total_memory / GIB
    return f" ({needs:.1f} GB stored, {has:.1f} GB on the device)"


def _products(form: str, full: str, multiplied: float) -> str:
    """How matrices are multiplied, and what that means for speed."""
    if multiplied > 0.99:
        return f"multiplied in {form}"
    if multiplied < 0.01:
        return f"unpacked to {full} for each layer: slower than {full} where that fits"
    return f"{multiplied:.0%} multiplied in {form}, the rest unpacked to {full} for each layer"
