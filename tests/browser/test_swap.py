"""Node menu: FireRed Edit (Local) in place of FireRed Edit (fal), and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from doubles.fal_server import FalServer
from support.browser import Editor, in_both_renderers
from support.comfyui import wait_until
from support.server_fixtures import MODEL_FOLDER

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

LOCAL, FAL = "FireRedEdit", "FireRedEditFal"
OTHER = {LOCAL: FAL, FAL: LOCAL}
LABELS = {LOCAL: "Use fal instead", FAL: "Use the local GPU instead"}

GRAPH = """async ([type, loaders]) => {
    const add = (type, pos) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = pos;
        return node;
    };
    const link = (source, slot, target, name) =>
        source.connect(slot, target, target.inputs.findIndex(input => input.name === name));
    const edit = add(type, [520, 100]);
    const set = (name, value) => { edit.widgets.find(w => w.name === name).value = value; };
    const first = add("LoadImage", [60, 100]), second = add("LoadImage", [60, 480]);
    link(first, 0, edit, "images.image_1");
    link(second, 0, edit, "images.image_2");
    set("size", "custom");
    set("size.width", 640);
    set("size.height", 480);
    set("num_images", 2);
    set("seed", 12345);
    set("control_after_generate", "increment");
    set("guidance_scale", 2.5);
    set("acceleration", "high");
    set("negative_prompt", "blur");
    link(add("PrimitiveStringMultiline", [60, 860]), 0, edit, "prompt");
    link(add("PrimitiveInt", [60, 1100]), 0, edit, "size.width");
    const save = add("SaveImage", [1060, 100]), text = add("PreviewAny", [1060, 480]);
    link(edit, 0, save, "images");
    link(edit, 2, text, "source");
    for (let count = 0; count < loaders; count++) {
        const loader = add("FireRedLoadModel", [60, 1260 + 260 * count]);
        const lora = add("FireRedLoadLora", [360, 1260 + 260 * count]);
        link(loader, 0, lora, "model");
        if (count === 0 && type === "FireRedEdit") link(lora, 0, edit, "model");
    }
    const into = edit.inputs.find(input => input.name === "images.image_2").link;
    app.graph.createReroute([460, 620], app.graph.getLink(into));
    app.graph.createReroute([1000, 40], app.graph.getLink(edit.outputs[0].links[0]));
    const guidance = edit.widgets.find(widget => widget.name === "guidance_scale");
    guidance.label = edit.inputs.find(input => input.name === "guidance_scale").label = "strength";
    edit.title = "Mine";
    edit.color = "#223344";
    edit.bgcolor = "#335577";
    edit.mode = 4;
    edit.properties.note = "of the artist";
}"""

SWAP = """async node => {
    const item = app.collectNodeMenuItems(node).find(item => item?.content.startsWith("Use "));
    item.callback();
    for (let frame = 0; frame < 4; frame++) await new Promise(requestAnimationFrame);
}"""


@in_both_renderers
@pytest.mark.parametrize("node", [LOCAL, FAL])
def test_the_menu_swaps_a_node_and_keeps_what_both_have_in_common(
    editor: Editor, node: str
) -> None:
    _build(editor, node, 1)
    before = _meaning(editor.saved())
    editor.choose(node, LABELS[node])
    other = OTHER[node]
    _wait_for(editor, other)
    editor.screenshot(f"swapped_{node}")
    after = _meaning(editor.saved())
    old, new = _edit(before), _edit(after)
    kept = ["title", "color", "bgcolor", "mode", "flags", "outputs"]
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    assert new["properties"]["note"] == "of the artist"
    assert new["properties"]["Node name for S&R"] == other
    shared = old["widgets_values"].keys() & new["widgets_values"].keys()
    assert {"prompt", "size", "size.height", "seed", "control_after_generate"} <= shared
    changed = {
        name for name in shared if old["widgets_values"][name] != new["widgets_values"][name]
    }
    assert changed == {"num_inference_steps", "working_megapixels"}
    assert new["widgets_values"]["acceleration"] == "high"
    own = {"model"}
    assert {name: end for name, end in new["inputs"].items() if name not in own} == {
        name: end for name, end in old["inputs"].items() if name not in own
    }
    assert len(new["inputs"].keys() - own) == 4
    assert ("guidance_scale", "strength", "FLOAT") in new["slots"]
    assert after["reroutes"] == before["reroutes"]

    editor.page.keyboard.press("Control+z")
    _wait_for(editor, node)
    assert _meaning(editor.saved()) == before
    assert _no_trouble(editor)


@pytest.mark.parametrize("node", [LOCAL, FAL])
def test_there_and_back_changes_nothing_but_ids(editor: Editor, node: str) -> None:
    _build(editor, node, 2)
    own = {LOCAL: {"noise": "gpu"}, FAL: {"max_cost": 3.5, "output_format": "jpeg"}}[node]
    editor.set(node, num_inference_steps=50, working_megapixels=0.5, **own)
    before = _meaning(editor.saved())
    _swap(editor, node)
    if node == FAL:
        # Two chains of models: neither is taken for the right one.
        assert editor.page.evaluate("app.graph.findNodesByType('FireRedLoadModel').length") == 3
        _remove(editor, before)
    _swap(editor, OTHER[node])
    assert _meaning(editor.saved()) == before


@pytest.mark.parametrize("node", [LOCAL, FAL])
def test_a_default_becomes_the_other_default_and_what_was_chosen_stays(
    editor: Editor, node: str
) -> None:
    editor.open_empty()
    defaults = {
        LOCAL: {"num_inference_steps": 40, "acceleration": "none", "working_megapixels": 1},
        FAL: {"num_inference_steps": 30, "acceleration": "regular", "working_megapixels": 0},
    }
    own, others = defaults[node], defaults[OTHER[node]]
    changed = {"num_inference_steps": 12, "acceleration": "high", "working_megapixels": 2.5}
    for values, expected in ((own, others), (others, others), (changed, changed)):
        editor.page.evaluate("app.graph.clear()")
        editor.page.evaluate("type => { app.graph.add(LiteGraph.createNode(type)); }", node)
        editor.set(node, **values)
        _swap(editor, node)
        assert _values(editor, OTHER[node], own) == expected
        _swap(editor, OTHER[node])
        assert _values(editor, node, own) == values


def test_a_model_is_the_end_of_the_only_chain_and_remembered_among_several(editor: Editor) -> None:
    _build(editor, FAL, 1)
    _swap(editor, FAL)
    assert _model(editor) == ("FireRedLoadLora", [360, 1260])
    _swap(editor, LOCAL)
    more = "() => { app.graph.add(LiteGraph.createNode('FireRedLoadModel')); }"
    editor.page.evaluate(more)
    _swap(editor, FAL)
    assert _model(editor) == ("FireRedLoadLora", [360, 1260])


def test_without_a_model_a_loader_is_added_to_the_left_beside_what_is_there(
    editor: Editor,
) -> None:
    _build(editor, FAL, 0)
    editor.choose(FAL, LABELS[FAL])
    toast = "A FireRed Load Model was added: choose in it where the model lies."
    expect(editor.page.get_by_text(toast)).to_be_visible()
    kind, place = _model(editor)
    assert kind == "FireRedLoadModel"
    assert place[0] < 520
    script = """loader => app.graph.nodes.filter(node => node !== loader && [0, 1].every(axis =>
        node.pos[axis] < loader.pos[axis] + loader.size[axis] &&
        loader.pos[axis] < node.pos[axis] + node.size[axis])).length"""
    assert editor.on_node("FireRedLoadModel", script) == 0
    editor.screenshot("swapped_without_model")


def test_more_pictures_than_the_local_engine_takes_stay_linked_and_are_told_of(
    editor: Editor,
) -> None:
    _build(editor, FAL, 1)
    more = """node => {
        const picture = app.graph.nodes.find(other => other.type === "LoadImage");
        for (const name of ["images.image_3", "images.image_4"])
            picture.connect(0, node, node.findInputSlot(name));
    }"""
    editor.on_node(FAL, more)
    _swap(editor, FAL)
    toast = (
        "The local engine takes 3 pictures and 4 are connected. "
        "FireRed Stitch References puts 4 to 12 into three."
    )
    expect(editor.page.get_by_text(toast)).to_be_visible()
    linked = [f"images.image_{number}" for number in (1, 2, 3, 4)]
    inputs = _edit(_meaning(editor.saved()))["inputs"]
    assert [name for name in inputs if name.startswith("images.")] == linked


def test_a_node_inside_a_subgraph_is_swapped_there(editor: Editor) -> None:
    _build(editor, FAL, 0)
    fold = """async node => {
        const { subgraph, node: host } = app.graph.convertToSubgraph(new Set([node]));
        const [inside] = subgraph.nodes;
        const count = inside.inputs.find(input => input.name === "num_images");
        subgraph.addInput("num_images", "INT").connect(count, inside);
        host.widgets.find(widget => widget.name === "num_images").value = 3;
        app.canvas.setGraph(subgraph);
        for (let frame = 0; frame < 4; frame++) await new Promise(requestAnimationFrame);
    }"""
    editor.on_node(FAL, fold)
    before = editor.page.evaluate(SUBGRAPH)
    assert before["values"]["num_images"] == 3
    swap = f"() => ({SWAP})(app.canvas.graph.nodes.find(node => /^FireRedEdit/.test(node.type)))"
    editor.page.evaluate(swap)
    editor.screenshot("swapped_in_subgraph")
    inside = "() => app.canvas.graph.nodes.map(node => node.type).sort()"
    assert editor.page.evaluate(inside) == ["FireRedEdit", "FireRedLoadModel"]
    assert editor.page.evaluate(SUBGRAPH) == before
    editor.page.evaluate(swap)
    assert editor.page.evaluate(SUBGRAPH) == before
    assert _no_trouble(editor)


SUBGRAPH = """() => {
    const host = app.rootGraph.nodes.find(node => node.isSubgraphNode());
    const ends = slots => slots.map(slot => [slot.name, slot.linkIds.map(id => {
        const { inputNode, input, output } = host.subgraph.getLink(id).resolve(host.subgraph);
        return input ? [input.name, inputNode.graph === host.subgraph] : output.name;
    })]);
    return {
        inputs: ends(host.subgraph.inputNode.slots),
        outputs: ends(host.subgraph.outputNode.slots),
        linked: host.inputs.filter(input => input.link != null).map(input => input.name),
        values: Object.fromEntries(host.widgets.map(widget => [widget.name, widget.value])),
    };
}"""


@in_both_renderers
def test_both_engines_give_the_same_number_and_size_of_pictures(
    editor: Editor, fal: FalServer, picture: Callable[[int, int], str]
) -> None:
    editor.open("firered_edit_local")
    editor.set("LoadImage", image=picture(123, 77))
    editor.set("FireRedLoadModel", source="folder")
    editor.set("FireRedLoadModel", **{"source.folder": MODEL_FOLDER})
    seed = 100 + len(editor.renderer)
    editor.set(LOCAL, num_inference_steps=2, working_megapixels=0.05, num_images=2, seed=seed)
    editor.run()
    local = _sizes(editor, [])
    editor.choose(LOCAL, LABELS[LOCAL])
    _wait_for(editor, FAL)
    assert editor.page.evaluate("app.graph.findNodesByType('FireRedLoadModel').length") == 1
    files = _files(editor)
    editor.run()
    remote = _sizes(editor, files)
    assert local == remote == [(123, 77)] * 2
    assert len(fal.jobs) == 1
    editor.screenshot("swapped_and_run")


def _build(editor: Editor, node: str, loaders: int) -> None:
    """A graph around ``node`` and chains of models, as it is after it has been saved and opened."""
    editor.open_empty()
    editor.page.evaluate(GRAPH, [node, loaders])
    # Only then are the slots of a choice in the order that undoing brings back.
    editor.load(editor.saved())


def _meaning(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow without ids: a node is where it lies, a link is its two ends."""
    places = {node["id"]: tuple(node["pos"]) for node in workflow["nodes"]}
    ends = {
        key: (places[source], slot, places[target])
        for key, source, slot, target, *_ in workflow["links"]
    }
    nodes = {places[node["id"]]: _node(node, ends) for node in workflow["nodes"]}
    extra = workflow["extra"]
    reroutes = [
        (reroute["pos"], sorted(ends[key] for key in reroute["linkIds"]))
        for reroute in extra.get("reroutes", [])
    ]
    floating = len(workflow.get("floatingLinks", []))
    return {"nodes": nodes, "reroutes": sorted(reroutes), "floating": floating}


def _node(node: dict[str, Any], ends: dict[int, Any]) -> dict[str, Any]:
    inputs = node.get("inputs", [])
    linked = {slot["name"]: ends[slot["link"]] for slot in inputs if slot["link"] is not None}
    outputs = {
        slot["name"]: sorted(ends[key][2] for key in slot["links"] or [])
        for slot in node.get("outputs", [])
    }
    slots = [(slot["name"], slot.get("label"), slot["type"]) for slot in inputs]
    own = {name: value for name, value in node.items() if name not in ("id", "order")}
    if node["type"] not in OTHER:
        # ComfyUI lets others grow as their pictures come.
        del own["size"]
    else:
        own["widgets_values"] = dict(zip(_widgets(inputs), node["widgets_values"], strict=True))
    return {**own, "inputs": linked, "outputs": outputs, "slots": slots}


def _widgets(inputs: list[dict[str, Any]]) -> list[str]:
    """The names of an edit node's widgets in the order of their values."""
    names = [slot["name"] for slot in inputs if "widget" in slot]
    children = [name for name in names if name.startswith("size.")]
    names = [name for name in names if name not in children]
    after_size, after_seed = names.index("size") + 1, names.index("seed") + 1
    return [
        *names[:after_size],
        *children,
        *names[after_size:after_seed],
        "control_after_generate",
        *names[after_seed:],
    ]


def _edit(meaning: dict[str, Any]) -> dict[str, Any]:
    """The node that is swapped."""
    return dict(meaning["nodes"][(520, 100)])


def _swap(editor: Editor, node: str) -> None:
    editor.on_node(node, SWAP)
    _wait_for(editor, OTHER[node])


def _wait_for(editor: Editor, node: str) -> None:
    script = """type => app.graph.nodes.some(node => node.type === type)
        && !app.graph.nodes.some(node => node.type === other[type])"""
    other = f"const other = {OTHER!r};"
    editor.page.wait_for_function(f"type => {{ {other} return ({script})(type); }}", arg=node)


def _remove(editor: Editor, before: dict[str, Any]) -> None:
    """Remove the loader that was not there before."""
    places = [list(place) for place in before["nodes"]]
    script = """places => {
        const known = new Set(places.map(String));
        for (const node of [...app.graph.nodes])
            if (!known.has(String([...node.pos]))) app.graph.remove(node);
    }"""
    editor.page.evaluate(script, places)


def _values(editor: Editor, node: str, names: dict[str, Any]) -> dict[str, Any]:
    script = """(node, names) => Object.fromEntries(names.map(
        name => [name, node.widgets.find(widget => widget.name === name).value]))"""
    return dict(editor.on_node(node, script, list(names)))


def _model(editor: Editor) -> tuple[str, list[float]]:
    """Class and place of the node that the local node's model comes from."""
    script = """node => {
        const { link } = node.inputs.find(input => input.name === "model");
        const { outputNode } = app.graph.getLink(link).resolve(app.graph);
        return [outputNode.type, [...outputNode.pos]];
    }"""
    kind, place = editor.on_node(LOCAL, script)
    return kind, place


def _files(editor: Editor) -> list[dict[str, str]]:
    script = "node => app.nodeOutputs[node.id]?.images ?? []"
    return list(editor.on_node("SaveImage", script))


def _sizes(editor: Editor, before: list[dict[str, str]]) -> list[tuple[int, int]]:
    """The sizes of the pictures that a run saves, once it has."""
    wait_until(partial(_has_others, editor, before), timeout=120)
    sizes = []
    for file in _files(editor):
        with Image.open(editor.comfyui.output_file(file)) as saved:
            sizes.append(saved.size)
    return sizes


def _has_others(editor: Editor, before: list[dict[str, str]]) -> bool:
    return _files(editor) not in ([], before)


def _no_trouble(editor: Editor) -> bool:
    return not [error for error in editor.errors if "firered" in error.lower()]
