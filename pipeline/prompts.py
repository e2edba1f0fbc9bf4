"""Pictures named in a prompt: ``@image2``, ``@图2`` and plain phrases.

The model sees every reference announced as "Picture N:". An ``@`` name is rewritten to that form
and must exist; a plain phrase is left as written and only noticed when it names no picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InputError

_AT_NAME = re.compile(r"@(image|img|picture|图片?)\s?(\d{1,3})", re.IGNORECASE)
# Latin letters only bound a name: Chinese is written without spaces around it.
_PLAIN_NAME = re.compile(
    r"(?<![a-z0-9_])(?:image|picture)\s?(\d{1,2})(?![a-z0-9_]|\.\d)"
    r"|第(\d{1,2})张图|图(\d{1,2})(?!\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NamedPrompt:
    """``text`` as the model should read it; ``notices`` for the artist."""

    text: str
    notices: tuple[str, ...]


def resolve_names(prompt: str, count: int) -> NamedPrompt:
    """Rewrite ``@`` names for ``count`` references.

    Raises ``InputError`` when an ``@`` name has no picture.
    """
    text = _AT_NAME.sub(lambda match: _picture_name(match, count), prompt)
    missing = [number for number in _plain_numbers(text) if not 1 <= number <= count]
    notices = tuple(
        f"the prompt speaks of image {number}, connected: {_connected(count)}"
        for number in dict.fromkeys(missing)
    )
    return NamedPrompt(text, notices)


def _picture_name(match: re.Match[str], count: int) -> str:
    number = int(match[2])
    if not 1 <= number <= count:
        raise InputError(
            f"The prompt names {match[0]}, but connected: {_connected(count)}.",
            "Connect that picture or change the name.",
        )
    return f"图{number}" if match[1].startswith("图") else f"Picture {number}"


def _plain_numbers(text: str) -> list[int]:
    return [int(next(filter(None, match.groups()))) for match in _PLAIN_NAME.finditer(text)]


def _connected(count: int) -> str:
    return "@image1 only" if count == 1 else f"@image1 to @image{count}"
