"""The price on FireRed Edit (fal): what it says, and that the page computes it as Python does."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page

from doubles.fal_server import FalServer
from firered_edit.pipeline.fal.pricing import estimate
from firered_edit.pipeline.geometry import (
    CUSTOM_SIDES,
    MAX_ASPECT,
    MEGAPIXELS,
    PRESETS,
    Custom,
    MatchImage,
    Megapixels,
    Preset,
    Size,
    SizePolicy,
    plan,
)
from support.browser import Editor, in_both_renderers
from support.comfyui import PACK_FOLDER, wait_until

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

FAL = "FireRedEditFal"
FIRST, SECOND = Size(1080, 1350), Size(640, 480)
UNKNOWN = "$0.0325/MP per edit"

CASES = 3000

BADGES = """type => app.canvas.graph.nodes.find(node => node.type === type).badges
    .map(badge => (typeof badge === "function" ? badge() : badge).text)"""
"""What a node in view has as badges, ComfyUI's own included."""


def test_the_page_finds_every_canvas_and_price_that_python_finds(editor: Editor) -> None:
    editor.open("firered_edit_fal")
    rng = random.Random(7)
    cases = [_case(rng) for _ in range(CASES)]
    found = _billing(
        editor.page,
        """cases.map(({size, first, megapixels, working, count}) => {
            const output = megapixels ? wholeCells(first, megapixels) : size;
            const canvas = canvasOf(output, working);
            const price = estimate(canvas.width * canvas.height, count);
            return [canvas.width, canvas.height, price.exact, price.roundedUp];
        })""",
        cases,
    )
    assert found == [_expected(case) for case in cases]
    presets = _billing(editor.page, "PRESETS", None)
    assert {name: (size["width"], size["height"]) for name, size in presets.items()} == PRESETS


@in_both_renderers
def test_the_badge_follows_every_widget_that_decides_the_price(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_fal")
    _load(editor, picture, FIRST)
    _assert_shows(editor, _price(MatchImage(), 1))
    editor.screenshot("badge_match_image")
    editor.set(FAL, num_images=3)
    _assert_shows(editor, _price(MatchImage(), 3))
    editor.set(FAL, working_megapixels=0.5)
    _assert_shows(editor, _price(MatchImage(), 3, working=0.5))
    editor.set(FAL, num_images=1, working_megapixels=0, size="custom")
    editor.set(FAL, **{"size.width": 1000, "size.height": 600})
    _assert_shows(editor, _price(Custom(1000, 600), 1))
    editor.screenshot("badge_custom")
    editor.set(FAL, size="preset")
    editor.set(FAL, **{"size.preset": "portrait_16_9"})
    _assert_shows(editor, _price(Preset("portrait_16_9"), 1))
    editor.set(FAL, size="megapixels")
    editor.set(FAL, **{"size.megapixels": 2.5})
    _assert_shows(editor, _price(Megapixels(2.5), 1))


@in_both_renderers
def test_the_badge_follows_the_picture_that_is_connected(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_fal")
    _load(editor, picture, FIRST)
    _assert_shows(editor, _price(MatchImage(), 1))
    _load(editor, picture, SECOND)
    _assert_shows(editor, f"{estimate(SECOND, 1)} per edit")
    editor.set(FAL, **{"size.index": 2})
    _assert_shows(editor, UNKNOWN)
    editor.set(FAL, num_images=2, **{"size.index": 1})
    _disconnect(editor, "images.image_1")
    _assert_shows(editor, "$0.0325/MP x 2 per edit")
    editor.screenshot("badge_unknown")


def test_what_is_known_roughly_is_said_to_be_and_equal_prices_are_one(editor: Editor) -> None:
    editor.open("firered_edit_fal")
    _disconnect(editor, "images.image_1")
    editor.set(FAL, size="megapixels")
    _assert_shows(editor, "about $0.0341 to $0.0650 per edit")
    editor.set(FAL, size="match image", working_megapixels=0.5)
    _assert_shows(editor, "about $0.0170 to $0.0325 per edit")
    editor.set(FAL, size="custom", working_megapixels=0)
    editor.set(FAL, **{"size.width": 1008, "size.height": 992})
    _assert_shows(editor, "$0.0325 per edit")


def test_what_a_link_decides_is_not_guessed(editor: Editor) -> None:
    editor.open("firered_edit_fal")
    editor.set(FAL, size="preset")
    editor.set(FAL, **{"size.preset": "square"})
    _assert_shows(editor, "$0.0085 to $0.0325 per edit")
    _link_number(editor, "num_images")
    _assert_shows(editor, "$0.0085 to $0.0325 per picture")
    editor.set(FAL, size="match image")
    _link_number(editor, "size.index")
    _assert_shows(editor, "$0.0325/MP per picture")
    editor.set(FAL, size="preset")
    # Newer frontends remember what was chosen before.
    editor.set(FAL, **{"size.preset": "square_hd"})
    _assert_shows(editor, "$0.0341 to $0.0650 per picture")
    _link_number(editor, "working_megapixels")
    _assert_shows(editor, "$0.0325/MP per picture")


THROUGH_A_REROUTE_AND_A_SUBGRAPH = """async node => {
    const reroute = LiteGraph.createNode("Reroute");
    app.graph.add(reroute);
    app.graph.nodes.find(other => other.type === "LoadImage").connect(0, reroute, 0);
    const place = node.inputs.findIndex(input => input.name === "images.image_1");
    reroute.connect(0, node, place);
    const { subgraph } = app.graph.convertToSubgraph(new Set([node]));
    app.canvas.setGraph(subgraph);
}"""


@in_both_renderers
def test_a_picture_is_found_behind_reroutes_and_outside_of_a_subgraph(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_fal")
    _load(editor, picture, FIRST)
    editor.on_node(FAL, THROUGH_A_REROUTE_AND_A_SUBGRAPH)
    _assert_shows(editor, _price(MatchImage(), 1))


# ComfyUI itself loses the link between what it folds and a slot that grows, a frame later.
INTO_A_SUBGRAPH = """async node => {
    const edit = app.graph.nodes.find(other => other.type === "FireRedEditFal");
    const { node: folded } = app.graph.convertToSubgraph(new Set([node]));
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
    folded.connect(0, edit, 0);
}"""


def test_a_picture_is_found_inside_of_a_subgraph(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_fal")
    _load(editor, picture, FIRST)
    _assert_shows(editor, _price(MatchImage(), 1))
    editor.on_node("LoadImage", INTO_A_SUBGRAPH)
    # What was shown before is found again, not left over.
    editor.set(FAL, num_images=2)
    _assert_shows(editor, _price(MatchImage(), 2))


def test_what_may_be_a_batch_leaves_the_number_of_a_later_picture_open(
    editor: Editor, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_fal")
    _load(editor, picture, FIRST)
    script = """node => {
        const batch = LiteGraph.createNode("EmptyImage");
        app.graph.add(batch);
        const place = node.inputs.findIndex(input => input.name === "images.image_1");
        const picture = app.graph.nodes.find(other => other.type === "LoadImage");
        picture.connect(0, node, place + 1);
        batch.connect(0, node, place);
    }"""
    editor.on_node(FAL, script)
    editor.set(FAL, **{"size.index": 2})
    _assert_shows(editor, UNKNOWN)


def test_the_price_shown_is_that_of_the_size_fal_is_asked_for(
    editor: Editor, fal: FalServer, picture: Callable[[int, int], str]
) -> None:
    size = Size(333, 222)
    editor.open("firered_edit_fal")
    _load(editor, picture, size)
    _assert_shows(editor, f"{estimate(Size(336, 224), 1)} per edit")
    editor.run()
    assert editor.shown_picture("SaveImage") == (size.width, size.height)
    assert fal.jobs[0].arguments["image_size"] == {"width": 336, "height": 224}


def test_only_the_node_that_costs_money_has_a_price(editor: Editor) -> None:
    editor.open("firered_edit_local")
    assert not any("$" in text for text in editor.page.evaluate(BADGES, "FireRedEdit"))


def test_the_badge_speaks_chinese(editor: Editor) -> None:
    editor.prefer("zh")
    editor.open("firered_edit_fal")
    editor.set(FAL, size="preset")
    _assert_shows(editor, "每次编辑 $0.0341 至 $0.0650")


def _case(rng: random.Random) -> dict[str, Any]:
    return {
        "size": _size(rng),
        "first": _size(rng),
        "megapixels": rng.choice([0, round(rng.uniform(MEGAPIXELS[0], 15), 1)]),
        "working": rng.choice([0, 1, round(rng.uniform(0.05, 16), 2)]),
        "count": rng.randint(1, 4),
    }


def _size(rng: random.Random) -> dict[str, int]:
    width = rng.randint(CUSTOM_SIDES[0], 4000)
    longest = min(4000, MAX_ASPECT * width)
    height = rng.randint(max(CUSTOM_SIDES[0], -(-width // MAX_ASPECT)), longest)
    # Near a megapixel is where nothing is scaled.
    return rng.choice([{"width": width, "height": height}, {"width": 1024, "height": 1000}])


def _expected(case: dict[str, Any]) -> list[float]:
    size, first = Size(**case["size"]), Size(**case["first"])
    policy = Megapixels(case["megapixels"]) if case["megapixels"] else Custom(*_sides(size))
    canvas = plan(policy, [first], case["working"]).canvas
    price = estimate(canvas, case["count"])
    return [canvas.width, canvas.height, price.exact, price.rounded_up]


def _sides(size: Size) -> tuple[int, int]:
    return size.width, size.height


def _billing(page: Page, expression: str, cases: Any) -> Any:
    """Evaluate an expression over ``cases`` with the page's own module at hand."""
    module = f"/extensions/{PACK_FOLDER}/node/billing.js"
    script = f"""async cases => {{
        const {{ PRESETS, canvasOf, estimate, wholeCells }} = await import("{module}");
        return {expression};
    }}"""
    return page.evaluate(script, cases)


def _price(policy: SizePolicy, count: int, working: float = 0.0) -> str:
    return f"{estimate(plan(policy, [FIRST], working).canvas, count)} per edit"


def _load(editor: Editor, picture: Callable[[int, int], str], size: Size) -> None:
    editor.set("LoadImage", image=picture(size.width, size.height))


def _assert_shows(editor: Editor, text: str) -> None:
    wait_until(partial(_shows, editor, text))


def _shows(editor: Editor, text: str) -> bool:
    if editor.renderer == "nodes 2.0":
        return editor.page.get_by_text(text, exact=True).count() == 1
    # What the classic canvas draws is nowhere in the page.
    return text in editor.page.evaluate(BADGES, FAL)


def _disconnect(editor: Editor, name: str) -> None:
    script = "(node, name) => { node.disconnectInput(node.findInputSlot(name)); }"
    editor.on_node(FAL, script, name)


def _link_number(editor: Editor, name: str) -> None:
    script = """(node, name) => {
        const place = node.findInputSlot(name);
        const type = node.inputs[place].type === "INT" ? "PrimitiveInt" : "PrimitiveFloat";
        const number = LiteGraph.createNode(type);
        app.graph.add(number);
        number.connect(0, node, place);
    }"""
    editor.on_node(FAL, script, name)
