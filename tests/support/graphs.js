/**
 * What `graphs.py` does inside ComfyUI's page: it places nodes, sets values, connects and frames.
 *
 * @typedef {{name: string, url: string, directory: string}} Model
 * @typedef {{key: string, type: string, at: number[], size: number[], title: string?, color: string?,
 *   values: Object<string, any>, links: Object<string, string>, models: Model[]}} Node
 * @typedef {{title: string, bounding: number[], color: string}} Group
 */
(() => {
  const TITLE_AND_BADGES = 54;

  /** Two pictures: sockets and widgets that depend on others appear between them. */
  const settle = async () => {
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  };

  /** Where a name is in a list of slots; an error that lists them where it is not. */
  const find = (slots, name) => {
    const index = slots.findIndex((slot) => slot.name === name);
    if (index < 0) throw new Error(`no ${name} among ${slots.map((slot) => slot.name)}`);
    return index;
  };

  /** @param {Node} described */
  const place = async (described) => {
    const node = LiteGraph.createNode(described.type);
    node.pos = described.at;
    app.graph.add(node);
    for (const [name, value] of Object.entries(described.values)) {
      const widget = node.widgets[find(node.widgets, name)];
      widget.value = value;
      widget.callback?.(value);
      await settle();
    }
    if (described.models.length) node.properties.models = described.models;
    if (described.title) node.title = described.title;
    if (described.color) Object.assign(node, { color: described.color, bgcolor: described.bgcolor });
    return node;
  };

  /** "key" or "key.output" as a node and the number of one of its outputs. */
  const output = (nodes, source) => {
    const [key, name] = source.split(".");
    return [nodes[key], name ? find(nodes[key].outputs, name) : 0];
  };

  const connect = async (nodes, node, name, source) => {
    const [from, slot] = output(nodes, source);
    from.connect(slot, node, find(node.inputs, name));
    await settle();
  };

  /** @param {{nodes: Node[], groups: Group[]}} described */
  const draw = async ({ nodes: described, groups }) => {
    const nodes = {};
    for (const one of described) nodes[one.key] = await place(one);
    for (const { key, links } of described)
      for (const [name, source] of Object.entries(links))
        await connect(nodes, nodes[key], name, source);
    for (const { key, size } of described) nodes[key].setSize(size);
    for (const { title, bounding, color } of groups) {
      const group = new LiteGraph.LGraphGroup(title);
      Object.assign(group, { pos: bounding.slice(0, 2), size: bounding.slice(2), color });
      app.graph.add(group);
    }
    await settle();
    return nodes;
  };

  /** Show what lies inside of one node as that node's own inputs, outputs and fields. */
  const expose = async (subgraph, nodes, { inputs, outputs }) => {
    // The page shows a seed by itself; here it comes in its own place.
    for (const input of [...subgraph.inputs]) subgraph.removeInput(input);
    for (const [name, target] of Object.entries(inputs)) {
      const [key, ...rest] = target.split(".");
      const slot = nodes[key].inputs[find(nodes[key].inputs, rest.join("."))];
      subgraph.addInput(name, String(slot.type)).connect(slot, nodes[key]);
      await settle();
    }
    for (const [name, source] of Object.entries(outputs)) {
      const [node, slot] = output(nodes, source);
      subgraph.addOutput(name, String(node.outputs[slot].type)).connect(node.outputs[slot], node);
    }
    await settle();
  };

  /** The described nodes inside of one node, as ComfyUI publishes it to its library. */
  const fold = async (described) => {
    const nodes = await draw(described);
    const { subgraph, node } = app.graph.convertToSubgraph(new Set(Object.values(nodes)));
    const inside = Object.fromEntries(
      Object.entries(nodes).map(([key, { id }]) => [key, subgraph.getNodeById(id)]),
    );
    await expose(subgraph, inside, described);
    subgraph.name = node.title = described.name;
    subgraph.inputNode.pos = described.ends.left;
    subgraph.outputNode.pos = described.ends.right;
    node.pos = [0, 0];
    node.setSize(described.size);
    const { nodes: outside, subgraphs } = app.canvas._serializeItems([node]);
    return { outside, subgraphs, last: node.id };
  };

  /** The corners of the graph: left, top, right, bottom. */
  const extent = () => {
    // A frame's title lies inside of it, a node's title and badges above it.
    const items = [...app.graph.nodes, ...app.graph.groups];
    const above = (item) => (item instanceof LiteGraph.LGraphGroup ? 0 : TITLE_AND_BADGES);
    return [
      Math.min(...items.map(({ pos }) => pos[0])),
      Math.min(...items.map((item) => item.pos[1] - above(item))),
      Math.max(...items.map(({ pos, size }) => pos[0] + size[0])),
      Math.max(...items.map(({ pos, size }) => pos[1] + size[1])),
    ];
  };

  /** Lay a point of the graph on the upper left corner of the canvas; where that is on the page. */
  const lookAt = async (left, top) => {
    const { ds, canvas } = app.canvas;
    Object.assign(ds, { scale: 1, offset: [-left, -top] });
    app.canvas.setDirty(true, true);
    await settle();
    const { x, y } = canvas.getBoundingClientRect();
    return [x, y];
  };

  return { draw, fold, extent, lookAt };
})()
