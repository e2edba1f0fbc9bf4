"""Model files made wrong at random: their bytes, their headers, their tensors, what they are.

A damage changes one file in place. Its first words say what was done to it; chance decides where.
"""

from __future__ import annotations

import json
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]
Change = Callable[[Path, random.Random], object]

LENGTHS = (0, 1, 7, 2**31, 2**32 + 8, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (-1, 0, 1, 3, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -1e300)
JUNK: tuple[Any, ...] = (
    *(None, True, False, "", "x", [], {}, [[]], {"a": {}}, [None], "a" * 9999, "\u202e\u0000"),
    *NUMBERS,
)
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F4", "x")
NAMES = ("", ".", "..", "../../x", "\u202e", "a" * 5000, "weight", "x.weight", "scaled_fp8", "模型")

PROOF = "unpickled"
"""The name of the file that whoever unpickles ``_Payload`` leaves behind."""


class Damage(NamedTuple):
    """What is done to a file, and what to call it."""

    name: str
    change: Change


class _Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._proof,)


# The file as a whole -------------------------------------------------------------------------


def empty(file: Path, _: random.Random) -> None:
    file.write_bytes(b"")


def cut_short(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])


def cut_in_the_header(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(1, 2000)])


def more_at_its_end(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.randrange(1, 5000)))


def flipped_bits(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    # Most of what can go wrong stands at the beginning.
    end = rng.choice((8, 64, 2000, len(data)))
    for _ in range(rng.randrange(1, 9)):
        data[rng.randrange(min(end, len(data)))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def bytes_moved_in(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    place = rng.randrange(min(4000, len(data)))
    file.write_bytes(data[:place] + rng.randbytes(rng.randrange(1, 40)) + data[place:])


def noise(file: Path, rng: random.Random) -> None:
    file.write_bytes(rng.randbytes(rng.randrange(1, 9000)))


def a_web_page(file: Path, _: random.Random) -> None:
    file.write_text("<!DOCTYPE html><title>Sign in</title>" * 40)


def a_zip(file: Path, _: random.Random) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", "none")


def a_pickle(file: Path, _: random.Random) -> None:
    file.write_bytes(pickle.dumps({"weight": _Payload(file.with_name(PROOF))}))


def a_torch_pickle(file: Path, rng: random.Random) -> None:
    content = {"weight": torch.zeros(2), "other": _Payload(file.with_name(PROOF))}
    torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.5)


def a_folder(file: Path, _: random.Random) -> None:
    file.unlink()
    file.mkdir()


def a_link_to_nothing(file: Path, _: random.Random) -> None:
    file.unlink()
    file.symlink_to(file.with_name("gone"))


def a_link_to_itself(file: Path, _: random.Random) -> None:
    file.unlink()
    file.symlink_to(file.name)


def a_link_to_a_folder(file: Path, _: random.Random) -> None:
    file.unlink()
    file.symlink_to(".")


def not_to_be_read(file: Path, _: random.Random) -> None:
    """Nothing is wrong with it for the administrator, who may read everything."""
    file.chmod(0)


WHOLE = (
    *(empty, cut_short, cut_short, cut_in_the_header, more_at_its_end, flipped_bits, flipped_bits),
    *(bytes_moved_in, noise, a_web_page, a_zip, a_pickle, a_torch_pickle, a_folder),
    *(a_link_to_nothing, a_link_to_itself, a_link_to_a_folder, not_to_be_read),
)


# Headers of safetensors files ----------------------------------------------------------------


def header_length(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    length = rng.choice((*LENGTHS, len(data), len(data) - 8, rng.randrange(2**64)))
    file.write_bytes(struct.pack("<Q", length) + data[8:])


def _header(edit: Callable[[Header, random.Random], object]) -> Damage:
    """Another header, of the length that it says."""

    def change(file: Path, rng: random.Random) -> None:
        data = file.read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:end])
        edit(header, rng)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[end:])

    return Damage(edit.__name__.replace("_", " "), change)


def _one(header: Header, rng: random.Random) -> str:
    return rng.choice([name for name in header if name != "__metadata__"])


def another_dtype(header: Header, rng: random.Random) -> None:
    header[_one(header, rng)]["dtype"] = rng.choice((*DTYPES, *JUNK))


def another_shape(header: Header, rng: random.Random) -> None:
    entry = header[_one(header, rng)]
    shape = entry["shape"]
    others = (
        *(shape[::-1], [*shape, 1], [1, *shape], [], shape[1:], shape * 100, [0, *shape]),
        *([2 * side for side in shape], [rng.choice(NUMBERS) for _ in shape], rng.choice(JUNK)),
        *([2**32, 2**32], [2**63, 2, 0], [-side for side in shape]),
    )
    entry["shape"] = rng.choice(others)


def another_place(header: Header, rng: random.Random) -> None:
    """Offsets that overlap, run backwards, lead out of the file or are no numbers."""
    entry, other = header[_one(header, rng)], header[_one(header, rng)]
    start, end = entry["data_offsets"]
    entry["data_offsets"] = rng.choice(
        (
            *([end, start], [start, end + 1], [start - 1, end - 1], [start, start], [0, end]),
            *(other["data_offsets"], [2**63, 2**63 + end - start], [start, 2**64 - 1]),
            *([start], [], [start, end, end], rng.choice(JUNK), [rng.choice(JUNK), end]),
        )
    )


def an_entry_gone(header: Header, rng: random.Random) -> None:
    del header[_one(header, rng)]


def an_entry_that_is_none(header: Header, rng: random.Random) -> None:
    header[rng.choice((_one(header, rng), *NAMES, "__metadata__"))] = rng.choice(JUNK)


def another_name(header: Header, rng: random.Random) -> None:
    name = _one(header, rng)
    far = re.sub(r"\.\d+\.", f".{rng.choice(_INDEXES)}.", name, count=1)
    header[rng.choice((far, far, name.upper(), *NAMES))] = header.pop(name)


_INDEXES = ("2", "40", "00", "1_0", "100000", "10000000", "1000000000000", "9" * 5000)


def another_layer_index(header: Header, rng: random.Random) -> None:
    """A layer numbered as if the model had millions of them."""
    numbered = [name for name in header if re.search(r"\.\d+\.", name)]
    name = rng.choice(numbered or [_one(header, rng)])
    far = re.sub(r"\.\d+\.", f".{rng.choice(_INDEXES)}.", name, count=1)
    header[far] = header.pop(name)


def hostile_metadata(header: Header, rng: random.Random) -> None:
    layers = ({"x": {}}, {}, [], None, 7, {_one(header, rng): rng.choice(JUNK)}, "[" * 9999)
    told = json.dumps({"layers": rng.choice(layers)})
    words = rng.choice((told, "{", "[" * 100_000, "null", "7", '{"layers": {"": {}}}'))
    header["__metadata__"] = {"_quantization_metadata": words, "format": rng.choice(NAMES)}


def deep_json(file: Path, rng: random.Random) -> None:
    text = rng.choice(("[", '{"a":', '{"a":[')).encode() * 100_000
    file.write_bytes(struct.pack("<Q", len(text)) + text)


HEADERS = (
    *map(_header, (another_dtype, another_shape, another_place, another_place, an_entry_gone)),
    *map(_header, (an_entry_that_is_none, another_name, another_layer_index, hostile_metadata)),
    Damage("header length", header_length),
    Damage("deep json", deep_json),
)


# Tensors -------------------------------------------------------------------------------------


def _tensors(edit: Callable[[Tensors, str, random.Random], object]) -> Damage:
    """A sound file with other tensors."""

    def change(file: Path, rng: random.Random) -> None:
        tensors = load_file(file)
        edit(tensors, rng.choice(list(tensors)), rng)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)

    return Damage(edit.__name__.replace("_", " "), change)


def one_cast(tensors: Tensors, name: str, rng: random.Random) -> None:
    tensors[name] = tensors[name].to(rng.choice(_CASTS))


def all_cast(tensors: Tensors, _: str, rng: random.Random) -> None:
    dtype = rng.choice(_CASTS)
    tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})


_CASTS = (
    *(torch.float64, torch.float16, torch.int8, torch.int64, torch.bool, torch.uint8),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float32),
)


def one_reshaped(tensors: Tensors, name: str, rng: random.Random) -> None:
    tensor = tensors[name]
    tensors[name] = rng.choice(
        (
            *(tensor.flatten(), tensor[None], tensor[:0], tensor.reshape(-1)[:1], tensor[..., :-1]),
            *(torch.tensor(0.5), tensor.repeat_interleave(2, 0), tensor.transpose(0, -1)),
        )
        if tensor.ndim
        else (tensor[None], torch.zeros(3), torch.zeros(0))
    ).clone()


def one_gone(tensors: Tensors, name: str, _: random.Random) -> None:
    del tensors[name]


def one_too_much(tensors: Tensors, name: str, rng: random.Random) -> None:
    kinds = (".weight_scale", ".scale_weight", ".comfy_quant", ".input_scale", ".stranger")
    stem = name.rpartition(".")[0]
    other = rng.choice((*(stem + kind for kind in kinds), *NAMES[1:], "model." + name))
    tensors[other] = rng.choice((torch.zeros(2), torch.tensor(1.0), torch.zeros(0), _mark(rng)))


def no_number(tensors: Tensors, name: str, rng: random.Random) -> None:
    if tensors[name].is_floating_point():
        values = tensors[name].float()
        tensors[name] = values.fill_(rng.choice((float("nan"), float("inf"), 0.0, 1e30)))


def another_mark(tensors: Tensors, name: str, rng: random.Random) -> None:
    """What a quantised layer says of its format, or a scale of it, is something else."""
    kinds = (".comfy_quant", "scale", "scale_2", "scale_weight", "scaled_fp8")
    chosen = [key for key in tensors if key.endswith(kinds)] or [name.rpartition(".")[0] + kinds[0]]
    key = rng.choice(chosen)
    if key.endswith(".comfy_quant"):
        tensors[key] = _mark(rng)
    else:
        others = (torch.zeros(3), torch.tensor(float("nan")), torch.ones(2, 2, 2), torch.zeros(0))
        tensors[key] = rng.choice(others)


def _mark(rng: random.Random) -> torch.Tensor:
    formats = ("float8_e4m3fn", "int8_tensorwise", "nvfp4", "mxfp8", "int3_dream", "", 7, None)
    texts = (b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 9999, b"{}")
    known = [json.dumps({"format": form}).encode() for form in formats]
    return torch.tensor(list(rng.choice((*known, *texts))), dtype=torch.uint8)


TENSORS = tuple(
    map(
        _tensors,
        (one_cast, all_cast, one_reshaped, one_gone, one_too_much, no_number, another_mark),
    )
)


# GGUF ----------------------------------------------------------------------------------------

_ARRAY, _UINT32, _UINT8, _STRING = 9, 4, 0, 8


def counts(file: Path, rng: random.Random) -> None:
    """How many tensors and values there are."""
    data = bytearray(file.read_bytes())
    place = rng.choice((8, 16))
    data[place : place + 8] = struct.pack("<Q", rng.choice((*LENGTHS, 10**6)))
    file.write_bytes(data)


def version(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[4:8] = struct.pack("<I", rng.choice((0, 1, 4, 0x03000000, 0x02000000, 2**32 - 1)))
    file.write_bytes(data)


def a_hostile_value(file: Path, rng: random.Random) -> None:
    """One more value at the beginning: a string or a list of a length that is not there."""
    data = file.read_bytes()
    (count,) = struct.unpack("<Q", data[16:24])
    key = rng.choice((b"general.alignment", b"a", b"", b"\xff\xfe", b"k" * 70_000))
    body = rng.choice((*_bodies(), struct.pack("<I", rng.randrange(2**32))))
    value = struct.pack("<Q", len(key)) + key + body
    file.write_bytes(data[:16] + struct.pack("<Q", count + 1) + value + data[24:])


def _bodies() -> Iterator[bytes]:
    for length in LENGTHS:
        yield struct.pack("<IQ", _STRING, length)
        for kind in (_UINT8, _STRING, _ARRAY, 12):
            yield struct.pack("<IIQ", _ARRAY, kind, length)
    yield struct.pack("<I", _ARRAY) + struct.pack("<IQ", _ARRAY, 1) * 5000
    for alignment in (0, 1, 3, 2**31, 2**32 - 1):
        yield struct.pack("<II", _UINT32, alignment)


def a_tensor_told_wrong(file: Path, rng: random.Random) -> None:
    """The dimensions, the format or the place of a tensor."""
    data = bytearray(file.read_bytes())
    name = rng.choice((b"img_in.weight", b"proj_out.weight", b"txt_in.bias", b"to_q.weight"))
    place = data.find(name)
    if place < 0:
        return
    place += len(name)
    (axes,) = struct.unpack("<I", data[place : place + 4])
    number = struct.pack("<Q", rng.choice((*LENGTHS, 2**40, 33)))
    match rng.randrange(4):
        case 0:
            data[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 5, 2**31, 2**32 - 1)))
        case 1:
            data[place + 4 : place + 12] = number
        case 2:
            form = place + 4 + 8 * axes
            data[form : form + 4] = struct.pack("<I", rng.choice((2, 8, 12, 24, 30, 99, 2**32 - 1)))
        case _:
            offset = place + 8 + 8 * axes
            data[offset : offset + 8] = number
    file.write_bytes(data)


GGUF = (counts, version, a_hostile_value, a_hostile_value, a_tensor_told_wrong, a_tensor_told_wrong)


# JSON of a model folder ----------------------------------------------------------------------


def another_setting(file: Path, rng: random.Random) -> None:
    content = json.loads(file.read_text())
    holder = content
    while True:
        key = rng.choice(list(holder))
        if not (isinstance(holder[key], dict) and holder[key] and rng.random() < 0.8):
            break
        holder = holder[key]
    holder[key] = rng.choice(JUNK)
    file.write_text(json.dumps(content))


def a_setting_gone(file: Path, rng: random.Random) -> None:
    content = json.loads(file.read_text())
    del content[rng.choice(list(content))]
    file.write_text(json.dumps(content))


def other_json(file: Path, rng: random.Random) -> None:
    texts = ("null", "[]", "7", '"x"', "{", "{}", "", "NaN", "[" * 100_000, '{"a":' * 100_000)
    file.write_text(rng.choice((*texts, "1" * 5000)))


def other_encoding(file: Path, rng: random.Random) -> None:
    text = file.read_text()
    file.write_bytes(text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig"))))


SETTINGS = (another_setting, another_setting, another_setting, a_setting_gone, other_json)


def _named(changes: tuple[Change, ...]) -> tuple[Damage, ...]:
    return tuple(
        Damage(getattr(change, "__name__", "").replace("_", " "), change) for change in changes
    )


SAFETENSORS_DAMAGES = (*_named(WHOLE), *HEADERS, *TENSORS, *TENSORS)
GGUF_DAMAGES = (*_named(WHOLE), *_named(GGUF), *_named(GGUF), *_named(GGUF))
JSON_DAMAGES = (*_named(SETTINGS), *_named(SETTINGS), *_named(WHOLE), *_named((other_encoding,)))


def damages(file: Path) -> tuple[Damage, ...]:
    """What can be done to a file of the kind of ``file``."""
    kinds = {".gguf": GGUF_DAMAGES, ".json": JSON_DAMAGES}
    return kinds.get(file.suffix, SAFETENSORS_DAMAGES)
