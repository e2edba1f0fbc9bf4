"""The links of a Markdown file that lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def broken_links(page: str, folder: Path, root: Path) -> list[str]:
    """Relative links of ``page``, a file of ``folder``, to no file in ``root`` or to no heading."""
    targets = _LINK.findall(_CODE.sub("", page))
    return [target for target in targets if not _leads(target, page, folder, root)]


def _leads(target: str, page: str, folder: Path, root: Path) -> bool:
    name, _, place = target.partition("#")
    file = (folder / name).resolve()
    if name and not (file.is_file() and file.is_relative_to(root.resolve())):
        return False
    return not place or place in anchors(file.read_text(encoding="utf-8") if name else page)


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings of ``page``."""
    found: set[str] = set()
    for heading in _HEADING.findall(re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = sum(1 for each in found if re.fullmatch(rf"{re.escape(words)}(-\d+)?", each))
        found.add(f"{words}-{number}" if number else words)
    return found
