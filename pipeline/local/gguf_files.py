"""GGUF files of the transformer: what they hold, and their packed weights unpacked.

The files follow ComfyUI-GGUF: tensors carry the names the module has, large matrices are packed in
one of llama.cpp's block formats, the rest are plain floats.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import BrokenModelError, MissingPackageError
from .gguf_header import check_header

if TYPE_CHECKING:
    from gguf import GGUFReader

SUFFIX = ".gguf"
PACKAGE = "gguf>=0.16"

PACKED = (
    *("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS"),
    *("Q3_K", "Q2_K"),
)
"""Block formats that can be computed with, by the names llama.cpp gives them."""

_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_ARCHITECTURES = (None, "qwen_image", "pig")
"""Some converters write none and one always writes "pig": then the tensors' names must tell."""

_CHUNK = 1 << 24
"""Weights unpacked at a time: it bounds what unpacking takes beside its result."""


@dataclass(frozen=True)
class Stored:
    """One tensor as the header tells: format, logical shape, and where its bytes lie."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Packed:
    """A weight as it lies in its file: ``data`` is (rows, bytes of a row), uint8."""

    data: Tensor
    kind: str
    shape: tuple[int, ...]


def is_gguf(file: Path) -> bool:
    return file.suffix.lower() == SUFFIX


def read_header(file: Path) -> dict[str, Stored]:
    """What ``file`` holds, by name; no weight is read.

    Raises ``BrokenModelError`` for a file that is cut off, not GGUF or of another architecture, and
    ``MissingPackageError`` where the package that reads it is not installed.
    """
    _check_package(file)
    from gguf import GGUFReader

    try:
        check_header(file)
        reader = GGUFReader(file)
        architecture = _architecture(reader)
        found = {
            tensor.name: Stored(
                tensor.tensor_type.name,
                tuple(int(side) for side in reversed(tensor.shape)),
                int(tensor.data_offset),
                int(tensor.n_bytes),
            )
            for tensor in reader.tensors
        }
        _check_places(reader, found.values())
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise BrokenModelError(
            f"{file.name} is truncated or not a readable GGUF file.",
            "Download this file again, or choose another.",
        ) from error
    _check_architecture(file, architecture)
    return found


def _check_places(reader: GGUFReader, stored: Iterable[Stored]) -> None:
    """Raise ``ValueError`` where a tensor lies at a place that its numbers cannot be read from."""
    if any((each.offset - reader.data_offset) % reader.alignment for each in stored):
        raise ValueError("a tensor lies between two places")


def _check_package(file: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackageError(
            f"{file.name} needs the package gguf.",
            f"Run: pip install {PACKAGE!r}, then restart ComfyUI. Safetensors files need no "
            "package.",
        )


def _architecture(reader: GGUFReader) -> object:
    field = reader.get_field("general.architecture")
    return None if field is None else field.contents()


def _check_architecture(file: Path, architecture: object) -> None:
    if architecture not in _ARCHITECTURES:
        raise BrokenModelError(
            f"{file.name} is of the architecture {architecture}, not of FireRed's, qwen_image.",
            "Choose a GGUF of FireRed-Image-Edit as diffusion_model; text encoder and VAE load "
            "from safetensors only.",
        )


def read_tensors(file: Path) -> dict[str, Tensor | Packed]:
    """The tensors of ``file`` by name. They are views of the mapped file, read when used."""
    header = read_header(file)
    content = torch.from_file(str(file), size=file.stat().st_size, dtype=torch.uint8)
    return {name: _tensor(content, stored) for name, stored in header.items()}


def _tensor(content: Tensor, stored: Stored) -> Tensor | Packed:
    data = content[stored.offset : stored.offset + stored.size]
    if stored.kind in _PLAIN:
        return data.view(_PLAIN[stored.kind]).view(stored.shape)
    return Packed(data.view(*stored.shape[:-1], -1), stored.kind, stored.shape)


def unpack(data: Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The weight packed in ``data``, on the device of ``data``.

    Computed in fp32 and rounded once, so that the numbers are those of a file in ``dtype`` that was
    made from this one.
    """
    unpack_blocks, weights, size = _format(kind)
    blocks = data.reshape(-1, size)
    result = torch.empty(len(blocks), weights, dtype=dtype, device=data.device)
    step = _CHUNK // weights
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        result[part] = unpack_blocks(blocks[part], weights, size, torch.float32)
    return result.view(shape)


@cache
def _format(kind: str) -> tuple[Callable[..., Tensor], int, int]:
    """How to unpack blocks of a format, their number of weights, and their bytes."""
    import gguf
    from diffusers.quantizers.gguf import utils

    number = gguf.GGMLQuantizationType[kind]
    functions: Any = utils.dequantize_functions
    weights, size = gguf.GGML_QUANT_SIZES[number]
    return functions[number], weights, size
