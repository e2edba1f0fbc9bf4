"""The help pages: whole, in step in both languages, and in the words of the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from firered_edit.pipeline.fal.pricing import PRICE_PER_MEGAPIXEL
from firered_edit.pipeline.host import RemoteSettings
from firered_edit.pipeline.local.families import FAMILY
from firered_edit.pipeline.local.hub import RELEASES
from firered_edit.pipeline.region import CONTEXT
from firered_edit.pipeline.stitching import COUNT
from support.pack import ROOT

DOCS = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh")
NODES: dict[str, Any] = json.loads(
    (ROOT / "tests" / "server" / "object_info.json").read_text(encoding="utf-8")
)
CHINESE: dict[str, Any] = json.loads(
    (ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8")
)
SECTIONS = {
    "en": ["When to use it", "How to connect it", "Inputs", "Outputs", "What can go wrong"],
    "zh": ["什么时候用", "如何连接", "输入", "输出", "可能的问题"],
}
LINES = range(40, 91)
"""What somebody reads who wants to go on working."""

of_all_nodes = pytest.mark.parametrize("node", sorted(NODES))
in_both_languages = pytest.mark.parametrize("language", LANGUAGES)


def _page(node: str, language: str) -> str:
    return (DOCS / node / f"{language}.md").read_text(encoding="utf-8")


def test_every_node_has_its_page_in_both_languages_and_no_other_has() -> None:
    assert {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")} == {
        f"{node}/{language}.md" for node in NODES for language in LANGUAGES
    }


@in_both_languages
@of_all_nodes
def test_a_page_has_the_common_form(node: str, language: str) -> None:
    page = _page(node, language)
    assert page.startswith(f"# {_title(node, language)}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS[language]
    assert len(page.splitlines()) in LINES
    # The panel is less than 300 pixels wide: there these are cut off.
    assert not re.search(r"^(\||```)", page, re.MULTILINE)


@of_all_nodes
def test_both_languages_are_in_step(node: str) -> None:
    english, chinese = (_page(node, language) for language in LANGUAGES)
    assert _shape(english) == _shape(chinese)
    assert _quoted(english) == _quoted(chinese)
    assert _links(english) == _links(chinese)


def _shape(page: str) -> list[str]:
    """What each line is: a heading, a point of a list, a picture, a paragraph."""
    starts = (re.match(r"#+ |- |  - |\d\. |> |!\[|", line) for line in page.splitlines())
    return [start[0] for start in starts if start]


def _links(page: str) -> list[str]:
    return re.findall(r"\[[^\]]*\]\((https?://[^)]+)\)", page)


def _title(node: str, language: str) -> str:
    return str(CHINESE[node]["display_name"]) if language == "zh" else _titles()[node]


def _titles() -> dict[str, str]:
    """The English title of each node, as the code gives it."""
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "nodes").glob("*.py"))
    return dict(re.findall(r'node_id="(\w+)",\s+display_name="([^"]+)"', code))


@in_both_languages
@of_all_nodes
def test_a_page_calls_nodes_by_their_titles(node: str, language: str) -> None:
    titles = {_title(each, language) for each in NODES}
    assert set(re.findall(r"\*\*(FireRed [^*]+)\*\*", _page(node, language))) <= titles


@in_both_languages
@of_all_nodes
def test_a_page_names_every_input_and_output(node: str, language: str) -> None:
    page = _page(node, language)
    named = set(re.findall(r"`([^`]+)`", page))
    assert _inputs(NODES[node]) - named == set()
    assert set(NODES[node]["output_name"]) - named == set()


def _inputs(node: dict[str, Any]) -> set[str]:
    """The names of all inputs; of those that grow, the first and the last."""
    return {name for group in node["input"].values() for name in _names(group)}


def _names(group: dict[str, Any]) -> Iterator[str]:
    for name, (_, options) in group.items():
        if template := options.get("template"):
            yield from (template["names"][0], template["names"][-1])
            continue
        yield name
        for choice in options.get("options", []):
            if isinstance(choice, dict):
                yield from (each for inner in choice["inputs"].values() for each in _names(inner))


@of_all_nodes
def test_a_chinese_page_calls_inputs_as_the_node_does(node: str) -> None:
    inputs = CHINESE[node]["inputs"]
    points = re.findall(
        r"^- (\S[^`\n]*) `(\w+)`[：（]", _section(_page(node, "zh"), 2), re.MULTILINE
    )
    assert points
    for label, name in points:
        (text,) = (inputs[key] for key in inputs if key.removeprefix("source_") == name)
        assert label == text["name"].split("（")[0]


def _section(page: str, number: int) -> str:
    return page.split("\n## ")[number + 1]


@in_both_languages
@of_all_nodes
def test_a_page_shows_a_picture_that_is_there(node: str, language: str) -> None:
    pictures = _pictures(_page(node, language))
    assert pictures
    # ComfyUI resolves them beside the pages' folders, not in them.
    assert all((DOCS / picture).is_file() for picture in pictures)


def _pictures(page: str) -> set[str]:
    return set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page))


def test_every_picture_is_shown_and_nothing_else_is_linked() -> None:
    pages = [_page(node, language) for node in NODES for language in LANGUAGES]
    shown = {picture for page in pages for picture in _pictures(page)}
    readme = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("README*.md"))
    unshown = {file.name for file in DOCS.iterdir() if file.is_file()} - shown
    assert {name for name in unshown if f"web/docs/{name}" not in readme} == set()
    for page in pages:
        targets = set(re.findall(r"\]\(([^)]+)\)", page)) - shown
        assert all(target.startswith("https://") for target in targets)


@of_all_nodes
def test_what_a_page_quotes_is_what_the_code_says(node: str) -> None:
    quotes = _quoted(_page(node, "en"))
    assert quotes
    assert [quote for quote in quotes if not any(_says(pieces, quote) for pieces in SAYINGS)] == []


def _quoted(page: str) -> list[str]:
    """The errors and notices of a page: bold, in quotation marks."""
    return re.findall(r'\*\*["“](.+?)["”]\*\*', page)


def _says(pieces: list[str], quote: str) -> bool:
    """Whether a text of the code can read like ``quote``: the whole of it, or a part."""
    if _normal(quote).strip("#.: ") in _normal("…".join(pieces)):
        return True
    whole = ".+".join(map(re.escape, pieces))
    return len("".join(pieces)) > len(quote) / 2 and re.fullmatch(whole, quote) is not None


def _normal(text: str) -> str:
    """With one sign for each number and each value that is put in."""
    return re.sub(r"(?:…|\d[\d.,x]*(?<![.,]))+", "#", text)


def _sayings() -> Iterator[list[str]]:
    """Every text of the code, in the pieces between the values that are put in."""
    for room in ("pipeline", "nodes"):
        for file in (ROOT / room).rglob("*.py"):
            for part in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(part, ast.JoinedStr | ast.Constant):
                    yield _pieces(part)


def _pieces(text: ast.JoinedStr | ast.Constant) -> list[str]:
    values = text.values if isinstance(text, ast.JoinedStr) else [text]
    constants = (value.value if isinstance(value, ast.Constant) else None for value in values)
    return "".join("…" if each is None else str(each) for each in constants).split("…")


SAYINGS = list(_sayings())


@in_both_languages
def test_figures_are_those_of_the_code(language: str) -> None:
    facts = {
        "FireRedEditFal": [f"{PRICE_PER_MEGAPIXEL}", f" {RemoteSettings().window} "],
        "FireRedCropRegion": [f"{PRICE_PER_MEGAPIXEL}", f"{12 * PRICE_PER_MEGAPIXEL:.2f}"],
        "FireRedPasteRegion": [f"{PRICE_PER_MEGAPIXEL}", f"{12 * PRICE_PER_MEGAPIXEL:.2f}"],
        "FireRedLoadModel": [f"{RELEASES['FireRed-Image-Edit-1.1'].size / 1e9:.1f} GB"],
        "FireRedStitchReferences": [f" {COUNT[0]} ", f" {COUNT[1]} "],
    }
    for node, figures in facts.items():
        assert [figure for figure in figures if figure not in _page(node, language)] == []


@of_all_nodes
def test_good_values_are_ones_the_node_takes(node: str) -> None:
    """Of inputs whose point begins with a number: that is the default."""
    points = re.findall(r"^- `(\w+)`: ([\d.]+)[. ,]", _page(node, "en"), re.MULTILINE)
    defaults = {
        name: spec[1]["default"]
        for group in NODES[node]["input"].values()
        for name, spec in group.items()
        if "default" in spec[1]
    }
    for name, value in points:
        if name == "context":
            assert CONTEXT[0] < float(value) <= CONTEXT[1]
        elif name != "num_images":
            assert float(value.rstrip(".")) == defaults[name], name


# The README in both languages --------------------------------------------------------------------

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
TROUBLE = {"en": "When something goes wrong", "zh": "出问题时"}


def _readme(language: str) -> str:
    return READMES[language].read_text(encoding="utf-8")


def test_the_readmes_are_in_step() -> None:
    english, chinese = _readme("en"), _readme("zh")
    for form in (r"^(##) ", r"^(\|)", r"!\[.*?\]\((.+?)\)", r"^((?:python3|\.hatch/).+)$"):
        assert re.findall(form, english, re.MULTILINE) == re.findall(form, chinese, re.MULTILINE)
    # The English one also says what each measure prints.
    assert set(_links(chinese)) == set(_links(english))


@in_both_languages
def test_a_readme_links_to_what_is_there(language: str) -> None:
    readme = _readme(language)
    headings = {
        re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
        for heading in re.findall(r"^#+ (.*)$", readme, re.MULTILINE)
    }
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", readme):
        file, _, place = target.partition("#")
        assert (ROOT / file).is_file() if file else place in headings


@in_both_languages
def test_a_readme_explains_errors_by_the_words_of_the_code(language: str) -> None:
    section = _readme(language).split(f"\n## {TROUBLE[language]}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    quotes = [quote for cell in cells for quote in cell.split(" / ")]
    assert len(quotes) > 10
    assert [quote for quote in quotes if not any(_holds(pieces, quote) for pieces in SAYINGS)] == []


def _holds(pieces: list[str], quote: str) -> bool:
    """Whether a text of the code can hold all parts of ``quote``, in their order."""
    open_ends = re.sub(rf"@image\d|\d+|{FAMILY}", "…", quote)
    parts = [part.strip() for part in open_ends.split("…")]
    return re.search(".*".join(map(re.escape, parts)), "…".join(pieces)) is not None
