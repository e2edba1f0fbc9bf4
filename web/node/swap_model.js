/** A model for a local node that has none: the only one of the graph, or a new loader. */

import { create } from "./graph.js";
import { connect } from "./swap_links.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./graph.js").LGraph} LGraph
 */

const MODEL = "FIRERED_MODEL";
const LOADER = "FireRedLoadModel";
const GAP = 60;

/**
 * @param {LGraph} graph
 * @param {LGraphNode} node
 * @returns {boolean} Whether a loader had to be added.
 */
export function giveModel(graph, node) {
  const [only, another] = chainEnds(graph);
  if (only && !another) return !connect(graph, only, node, "model");
  const loader = create(LOADER);
  if (!loader) return false;
  loader.pos = freePlace(graph, loader, node);
  graph.add(loader);
  return connect(graph, [loader.id, 0], node, "model");
}

/**
 * The outputs for models that nothing takes further, as a LoRA does.
 *
 * @param {LGraph} graph
 * @returns {import("./swap_links.js").Origin[]}
 */
function chainEnds(graph) {
  const givers = graph.nodes.filter((node) => modelSlot(node) >= 0);
  const passedOn = new Set(givers.flatMap((node) => origins(graph, node)));
  return givers.filter((node) => !passedOn.has(node.id)).map((node) => [node.id, modelSlot(node)]);
}

/** @param {LGraphNode} node */
function modelSlot(node) {
  return node.outputs?.findIndex((output) => output.type === MODEL) ?? -1;
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} node
 */
function origins(graph, node) {
  return node.inputs.map((input) => graph.getLink(input.link)?.origin_id);
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} loader
 * @param {LGraphNode} node
 * @returns {[number, number]} To the left of `node`, below whatever lies there.
 */
function freePlace(graph, loader, node) {
  const [width, height] = loader.size;
  const left = node.pos[0] - width - GAP;
  let top = node.pos[1];
  const inColumn = graph.nodes
    .filter((other) => other.pos[0] < left + width && other.pos[0] + other.size[0] > left)
    .sort((one, other) => one.pos[1] - other.pos[1]);
  for (const { pos, size } of inColumn) {
    if (pos[1] < top + height + GAP && pos[1] + size[1] + GAP > top) top = pos[1] + size[1] + GAP;
  }
  return [left, top];
}
