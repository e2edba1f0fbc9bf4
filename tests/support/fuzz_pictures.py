"""Picture files of every kind that may come instead of a plain PNG, and damaged ones."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

from firered_edit.pipeline.images import Pixels

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be held."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = b"the_same_word_again_and_again"


def gradient(width: int, height: int) -> Pixels:
    """(H, W, 3): no two rows or columns alike, and smooth, so that a JPEG keeps it."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.rint(np.stack([x, y, 255 - x / 2], axis=-1)).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def deep_png(pixels: Pixels) -> bytes:
    """A PNG with 16 bits for each of three colours, which Pillow does not write."""
    height, width = pixels.shape[:2]
    rows = (pixels.astype(np.uint16) * 257).astype(">u2").tobytes()
    stride = width * 6
    lines = b"".join(b"\x00" + rows[y * stride : (y + 1) * stride] for y in range(height))
    return png(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), zlib.compress(lines))


def png(head: bytes, packed: bytes, *others: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", head), *others, (b"IDAT", packed), (b"IEND", b"")]
    return _PNG + b"".join(chunk(name, data) for name, data in chunks)


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def declared(width: int, height: int, packed: bytes = b"") -> bytes:
    """A PNG that says it is of this size, whatever is in it."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), packed)


def bomb(width: int, height: int) -> bytes:
    """A PNG of this size whose pixels pack to a thousandth."""
    line = b"\x00" * (1 + 3 * width)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return declared(width, height, packed)


def text_bomb(pixels: Pixels) -> bytes:
    """A small PNG with a note of many megabytes."""
    note = b"note\x00\x00" + zlib.compress(b" " * 96 * 1024 * 1024, 9)
    height, width = pixels.shape[:2]
    lines = b"".join(b"\x00" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png(head, zlib.compress(lines), (b"zTXt", note))


def no_pictures() -> dict[str, bytes]:
    """What a server may send in the place of a picture."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("1.png", _MARK * 100)
    small = Image.fromarray(gradient(8, 8))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect/></svg>'
    return {
        "nothing": b"",
        "svg": svg,
        "html": b"<!doctype html><title>Sign in</title>",
        "json": b'{"detail": "Not Found"}',
        "zip": archive.getvalue(),
        "pdf": b"%PDF-1.7\n",
        "zeros": bytes(5000),
        "only the head of a png": _PNG,
        "only the head of a jpeg": b"\xff\xd8\xff\xe0",
        "only the head of a webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "gif": saved(small, "GIF"),
        "animated gif": saved(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
        "bmp": saved(small, "BMP"),
        "tiff": saved(small, "TIFF"),
        "ico": saved(small, "ICO"),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    }


def files(pixels: Pixels) -> dict[str, bytes]:
    """``pixels`` in kinds of files that keep them, or nearly."""
    picture = Image.fromarray(pixels)
    black = Image.new("RGB", picture.size)
    again = {"save_all": True, "append_images": [black], "duration": 50}
    return {
        "png": saved(picture, "PNG"),
        "png of 16 bits": deep_png(pixels),
        "jpeg": saved(picture, "JPEG", quality=98, subsampling=0),
        "progressive jpeg": saved(picture, "JPEG", quality=98, subsampling=0, progressive=True),
        "cmyk jpeg": saved(picture.convert("CMYK"), "JPEG", quality=98, subsampling=0),
        "webp": saved(picture, "WEBP", lossless=True),
        "animated png": saved(picture, "PNG", **again),
        "animated webp": saved(picture, "WEBP", lossless=True, **again),
        "png with transparency": saved(picture.convert("RGBA"), "PNG"),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """``data`` with a few bytes changed, gone, or put in; more often near its head."""
    body = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = (
            rng.randrange(len(body)) if rng.random() < 0.5 else rng.randrange(1 + len(body) // 9)
        )
        match rng.randrange(4):
            case 0:
                body[place] ^= rng.randrange(1, 256)
            case 1:
                del body[place : place + rng.randrange(1, 20)]
            case 2:
                body[place:place] = rng.randbytes(rng.randrange(1, 20))
            case _:
                body[place : place + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)))
        if len(body) < 2:
            return bytes(body)
    return _with_checksums(bytes(body)) if rng.random() < 0.5 else bytes(body)


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks, whatever is in them, have the checksums that belong to it."""
    if not data.startswith(_PNG):
        return data
    made, at = bytearray(_PNG), len(_PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        made += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return bytes(made)
