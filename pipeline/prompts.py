"""Pictures named in a prompt: ``@image2``, ``image 2``, ``the second picture``, ``图2``.

The model sees every reference announced as "Picture N:", numbered as the artist sees them, and was
trained on prompts that say "image 2" or "图2" of it. So a plain phrase is left as written, and only
noticed where it names no picture. An ``@`` name is ours: it is rewritten to the model's form and
must exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .errors import InputError

_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_NUMERALS = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")

# Latin letters only bound a name: Chinese is written without spaces around it.
_ALONE = r"(?<![A-Za-z0-9_@])"
# What makes a number something else than a name: 4K, 2.5, 16:9, 50 %, 300 dpi.
_NO_MEASURE = (
    r"(?![A-Za-z0-9_%°]|[.:：/×-]\d|,\d{3}"
    r"|\s?(?:k|x|px|pixels?|mp|megapixels?|dpi|mm|cm|inch(?:es)?|times|percent|bits?|steps?)\b"
    r"|\s?%|倍|个|张|像素|厘米|毫米|英?寸|分之|分钟|比\d)"
)
_HAN_NUMERAL = "十[一二]?|[一二三四五六七八九]"
_HAN_NOUN = "图片|图像|照片|图"
# 如图一样 is "just like the picture", 图一下 and its like are verbs.
_NO_IDIOM = "(?![一二三四五六七八九十样般下些直起定切旦个])"
# Longer words that end in 图: map, screenshot, layout, attempt, ...
_NO_OTHER_WORD = "(?<![地截构蓝草插视拼意试企绘制贴])"

_NAME = re.compile(
    rf"""
      (?<![A-Za-z0-9_.@])@(?P<at>image|img|picture|pic|photo|{_HAN_NOUN})\s?
        (?P<at_number>\d{{1,3}})(?![A-Za-z0-9_])
    | {_ALONE}(?P<many>images|imgs|pictures|pics|photos)\s?
        (?P<numbers>\d{{1,2}}(?:\s?(?:,\s?and|,|and|or|&|to|-|–)\s?\#?\d{{1,2}})*){_NO_MEASURE}
    | {_ALONE}(?P<one>image|img|picture|pic|photo)[ _-]?\#?(?P<number>\d{{1,2}}){_NO_MEASURE}
    | {_ALONE}(?:the\s)?(?P<ordinal>{"|".join(_ORDINALS)}|last|\d{{1,2}}(?:st|nd|rd|th))
        \s(?:reference\s|input\s)?(?P<ordered>image|picture|photo)(?![A-Za-z0-9_]|\sframe)
    | 第(?P<nth>\d{{1,2}}|{_HAN_NUMERAL})[张幅个](?:参考|输入)?
        (?P<nth_noun>{_HAN_NOUN})(?![层案书标纸形表])
    | 最后一?[张幅个](?:参考|输入)?(?P<final>{_HAN_NOUN})(?![层案书标纸形表])
    | {_NO_OTHER_WORD}(?<!@)(?P<han>{_HAN_NOUN})\s?\#?
        (?P<han_numbers>\d{{1,2}}(?:\s?(?:、|，|和|与|及|或|至|-|~)\s?\d{{1,2}})*){_NO_MEASURE}
    | {_NO_OTHER_WORD}(?<![如力贪])(?P<numeral_noun>图)(?P<numeral>{_HAN_NUMERAL}){_NO_IDIOM}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_STRAY = re.compile(rf"(?<![A-Za-z0-9_.@])@(?:image|img|picture|{_HAN_NOUN})[A-Za-z0-9_]*", re.I)
_HAN = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class NamedPrompt:
    """``text`` as the model should read it; ``notices`` for the artist."""

    text: str
    notices: tuple[str, ...]


class Placement(NamedTuple):
    """Where a picture has gone: into picture ``number``, of which it is the part ``where``.

    ``where`` is in the prompt's language, and empty where it is the whole picture.
    """

    number: int
    where: str


@dataclass(frozen=True)
class Name:
    """A phrase of a prompt that names pictures: ``text`` at ``start``, with ``noun`` as written."""

    start: int
    text: str
    noun: str
    numbers: tuple[int, ...]
    at: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def chinese(self) -> bool:
        return is_chinese(self.noun)


def resolve_names(prompt: str, count: int) -> NamedPrompt:
    """Rewrite ``@`` names for ``count`` references.

    Raises ``InputError`` when an ``@`` name has no picture.
    """
    notices = check_names(prompt, count)
    return NamedPrompt(_rewrite(prompt, count, _as_the_model_reads), notices)


def check_names(prompt: str, count: int) -> tuple[str, ...]:
    """Notices for what names none of ``count`` references.

    Raises ``InputError`` where that is an ``@`` name.
    """
    names = find_names(prompt, count)
    missing = {n: name for name in names for n in name.numbers if not 1 <= n <= count}
    for name in missing.values():
        if name.at:
            raise InputError(
                f"The prompt names {name.text}, but connected: {_connected(count)}.",
                "Connect that picture or change the name.",
            )
    found = {name.start for name in names}
    stray = [match[0] for match in _STRAY.finditer(prompt) if match.start() not in found]
    return (
        *(f"the prompt speaks of image {n}, connected: {_connected(count)}" for n in missing),
        *(f"{text} names no picture, connected: {_connected(count)}" for text in stray),
    )


def renumber(prompt: str, placements: Sequence[Placement]) -> str:
    """``prompt`` for pictures that were put together: picture k is now ``placements[k - 1]``.

    "image 5" becomes "image 3 (bottom right part)". Names of no picture stay as they are.
    """
    brackets = "（{}）" if is_chinese(prompt) else " ({})"

    def place(number: int) -> str:
        placement = placements[number - 1]
        return f"{placement.number}{brackets.format(placement.where) if placement.where else ''}"

    def phrase(name: Name) -> str:
        if not all(1 <= number <= len(placements) for number in name.numbers):
            return name.text
        return _phrase(name, [place(number) for number in name.numbers])

    return _rewrite(prompt, len(placements), phrase)


def find_names(prompt: str, count: int) -> list[Name]:
    """Every phrase of ``prompt`` that names pictures, in order; the last one is ``count``."""
    return [_name(match, count) for match in _NAME.finditer(prompt)]


def is_chinese(text: str) -> bool:
    """Whether ``text`` holds a Chinese character."""
    return bool(_HAN.search(text))


def _name(match: re.Match[str], count: int) -> Name:
    kind = match.groupdict()

    def name(noun: str | None, numbers: Sequence[int], at: bool = False) -> Name:
        return Name(match.start(), match[0], noun or "", tuple(numbers), at)

    match kind:
        case {"at": str(noun), "at_number": number}:
            return name(noun, [int(number)], at=True)
        case {"many": str(noun), "numbers": numbers}:
            return name(noun, _listed(numbers))
        case {"one": str(noun), "number": number}:
            return name(noun, [int(number)])
        case {"ordered": str(noun), "ordinal": ordinal}:
            return name(noun, [_ordinal(ordinal.lower(), count)])
        case {"nth": str(nth)}:
            return name("图", [_numeral(nth)])
        case {"han": str(noun), "han_numbers": numbers}:
            return name(noun, _listed(numbers))
        case {"numeral": str(numeral)}:
            return name("图", [_numeral(numeral)])
    return name("图", [count])


def _listed(text: str) -> list[int]:
    """``1, 2 and 5`` as its numbers, ``2-4`` with those between."""
    numbers: list[int] = []
    for to, digits in re.findall(r"(to|-|–|至|~)?\s?#?(\d+)", text, re.IGNORECASE):
        number = int(digits)
        numbers += range(numbers[-1] + 1, number) if to and numbers else ()
        numbers.append(number)
    return numbers


def _ordinal(word: str, count: int) -> int:
    if word == "last":
        return count
    return _ORDINALS.index(word) + 1 if word in _ORDINALS else int(word[:-2])


def _numeral(text: str) -> int:
    return _NUMERALS.index(text) + 1 if text in _NUMERALS else int(text)


def _rewrite(prompt: str, count: int, phrase: Callable[[Name], str]) -> str:
    parts, end = [], 0
    for name in find_names(prompt, count):
        parts += [prompt[end : name.start], phrase(name)]
        end = name.end
    return "".join([*parts, prompt[end:]])


def _as_the_model_reads(name: Name) -> str:
    if not name.at:
        return name.text
    return f"图{name.numbers[0]}" if name.chinese else f"Picture {name.numbers[0]}"


def _phrase(name: Name, places: list[str]) -> str:
    if name.at:
        return f"@{name.noun}{places[0]}"
    if name.chinese:
        return "、".join(f"{name.noun}{place}" for place in places)
    if len(places) == 1:
        return f"{name.noun.removesuffix('s')} {places[0]}"
    return f"{name.noun} {', '.join(places[:-1])} and {places[-1]}"


def _connected(count: int) -> str:
    return "@image1 only" if count == 1 else f"@image1 to @image{count}"
