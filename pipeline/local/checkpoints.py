"""Model files on disk: what they hold is read and judged before a weight is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BrokenModelError, MissingModelError
from . import gguf_files

COMPANIONS = (
    ".comfy_quant",
    ".weight_scale",
    ".weight_scale_2",
    ".input_scale",
    ".pre_quant_scale",
    ".scale_weight",
    ".scale_input",
)
"""What ComfyUI's quantised files hold beside a layer's weight, in both of its generations."""

QUANTISED_MARK = "scaled_fp8"
"""A tensor of this name marks a whole file as of the older generation."""

SCALES = ("weight_scale", "weight_scale_2", "scale_weight")
"""Without these a quantised weight is another weight."""

NAMES = (".safetensors", ".sft")
"""What a safetensors file is called; one of another name would be read as a pickle by others."""

_METADATA = "_quantization_metadata"
_COMPLETE = ("BF16", "F16", "F32", "F8_E4M3", "F8_E5M2", *gguf_files.PACKED)
"""Dtypes that need nothing beside the weight."""


@dataclass(frozen=True)
class Entry:
    """One tensor as its file's header tells: dtype in its format's words, shape, bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """The files of one part of a model. ``name`` is what errors call it; it holds no path."""

    name: str
    files: tuple[Path, ...]
    entries: Mapping[str, Entry]
    quantised: frozenset[str] = field(default_factory=frozenset)
    """Layers stored in one of ComfyUI's quantised formats."""

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.size for entry in self.entries.values())

    def shape(self, key: str, axes: int) -> tuple[int, ...]:
        """The shape of ``key``; raises ``BrokenModelError`` unless it is there and has ``axes``."""
        if key not in self.entries:
            raise self.broken(f"lacks {key}")
        shape = self.entries[key].shape
        if len(shape) != axes:
            raise self.broken(f"has {key} as {shape}")
        return shape

    def renamed(self, names: Mapping[str, str]) -> Checkpoint:
        """The same with keys renamed; keys that ``names`` does not list are dropped."""
        entries = {names[key]: entry for key, entry in self.entries.items() if key in names}
        # A header names quantised layers without the prefix that their tensors carry.
        marked = {f"{layer}.weight" for layer in self.quantised}
        weights = {new for old, new in names.items() if old in marked or new in marked}
        quantised = frozenset(weight.removesuffix(".weight") for weight in weights)
        return Checkpoint(self.name, self.files, entries, quantised)

    def broken(self, how: str) -> BrokenModelError:
        return broken(self.name, how)


def open_checkpoint(name: str, files: Iterable[Path]) -> Checkpoint:
    """Read the headers of ``files``, which together make up one part of a model.

    Raises ``MissingModelError`` or ``BrokenModelError`` that names the file: not there, truncated,
    not safetensors. A truncated file is noticed by its length.
    """
    entries: dict[str, Entry] = {}
    quantised: set[str] = set()
    files = tuple(files)
    for file in files:
        found, metadata = _header(file)
        entries |= found
        quantised |= _quantised_layers(file, found, metadata)
    return Checkpoint(name, files, entries, frozenset(quantised))


def _header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if gguf_files.is_gguf(file):
            stored = gguf_files.read_header(file).items()
            return {key: Entry(found.kind, found.shape, found.size) for key, found in stored}, {}
        if file.suffix.lower() not in NAMES:
            raise broken(named(file), f"is not named {' or '.join(NAMES)}")
        with safe_open(file, framework="pt") as opened:
            slices = ((key, opened.get_slice(key)) for key in opened.keys())  # noqa: SIM118
            entries = {key: _entry(part.get_dtype(), part.get_shape()) for key, part in slices}
            return entries, opened.metadata() or {}
    except FileNotFoundError:
        raise missing(named(file)) from None
    except (SafetensorError, OSError) as error:
        raise broken(named(file), "is truncated or not a safetensors file") from error


def _entry(dtype: str, shape: Iterable[int]) -> Entry:
    shape = tuple(shape)
    # Every dtype but BOOL has its width in bits as the first number of its name.
    bits = re.search(r"\d+", dtype)
    return Entry(dtype, shape, math.prod(shape) * (int(bits[0]) if bits else 8) // 8)


def _quantised_layers(
    file: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> set[str]:
    suffixes = [".comfy_quant"]
    if any(key.endswith(QUANTISED_MARK) for key in entries):
        suffixes.append(".scale_weight")
    layers = {
        key.removesuffix(suffix) for key in entries for suffix in suffixes if key.endswith(suffix)
    }
    if _METADATA in metadata:
        try:
            layers |= set(json.loads(metadata[_METADATA])["layers"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise broken(named(file), "describes its quantisation unreadably") from error
    return layers


def check_layout(checkpoint: Checkpoint) -> None:
    """Raise where a weight makes no sense without scales that are not there.

    Whole numbers and packed formats never do; ComfyUI's own files hold the scales.
    """
    for key, entry in checkpoint.entries.items():
        if entry.dtype not in _COMPLETE and key.removesuffix(".weight") not in checkpoint.quantised:
            raise BrokenModelError(
                f"{checkpoint.name} stores {key} as {entry.dtype}, a layout that is not ComfyUI's.",
                "Use the bf16 or fp8 file of FireRed-Image-Edit-1.1.",
            )


def weight_keys(checkpoint: Checkpoint) -> Iterator[str]:
    """Keys of the weights proper, without what belongs to their quantisation."""
    for key in checkpoint.entries:
        if not key.endswith((*COMPANIONS, QUANTISED_MARK)):
            yield key


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model folder; errors name the file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(named(file)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise broken(named(file), "is not readable JSON") from error
    if not isinstance(content, dict):
        raise broken(named(file), "is not a JSON object")
    return content


def folder_files(part: Path) -> tuple[Path, ...]:
    """Every safetensors file of a part of a model folder, from its index where it is sharded."""
    indexes = sorted(part.glob("*.safetensors.index.json"))
    names = _shard_names(indexes[0]) if indexes else {f.name for f in part.glob("*.safetensors")}
    if not names:
        raise missing(named(part / "*.safetensors"))
    return tuple(part / name for name in sorted(names))


def _shard_names(index: Path) -> set[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_name, weight_map.values())):
        raise broken(named(index), "does not name its files")
    return set(weight_map.values())


def _is_name(value: object) -> bool:
    """Whether ``value`` names a file beside the index, and nothing that leads elsewhere."""
    return isinstance(value, str) and Path(value).name == value


def named(file: Path) -> str:
    """How an artist knows a file: its name and the folder it lies in."""
    return f"{file.parent.name}/{file.name}"


def missing(name: str) -> MissingModelError:
    return MissingModelError(
        f"The model file {name} is not there.", "Download it again; all its files are needed."
    )


def broken(name: str, how: str) -> BrokenModelError:
    return BrokenModelError(f"{name} {how}.", "Download this file again, or choose another.")
