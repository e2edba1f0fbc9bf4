"""Pictures in and out, the way fal's image toolkit treats them."""

import io
import math
from typing import Any

from PIL import Image, ImageOps

Size = tuple[int, int]

UNREADABLE = (OSError, SyntaxError, ValueError)
"""What Pillow raises on bytes that are no picture, or only the beginning of one."""


def decode(data: bytes) -> Image.Image:
    """fal drops alpha instead of compositing it, and applies the EXIF orientation."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def encode(image: Image.Image, output_format: str) -> bytes:
    options = {"compress_level": 1} if output_format == "png" else {"quality": 95}
    with io.BytesIO() as buffer:
        image.convert("RGB").save(buffer, output_format, **options)
        return buffer.getvalue()


def black(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size)


def first_reference(arguments: dict[str, Any], references: list[Image.Image]) -> list[Image.Image]:
    """The picture maker of a server that was given none."""
    size = arguments["image_size"]["width"], arguments["image_size"]["height"]
    picture = references[0].resize(size, Image.Resampling.LANCZOS)
    return [picture] * arguments["num_images"]


def rounded(size: Size, rounding: str) -> Size:
    """The size that a server with this habit returns when it is asked for `size`."""
    if rounding == "floor16":
        return max(16, size[0] // 16 * 16), max(16, size[1] // 16 * 16)
    if rounding == "refit1mp32":
        return _refit(size, area=1024 * 1024, multiple=32)
    return size


def _refit(size: Size, area: int, multiple: int) -> Size:
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    return round(width / multiple) * multiple, round(width / ratio / multiple) * multiple


def megapixels(image: Image.Image) -> int:
    """What fal bills for: every begun megapixel of a picture counts whole."""
    return math.ceil(image.width * image.height / 1_000_000)
