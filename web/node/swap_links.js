/** Links from one node to another that takes its place, through reroutes and subgraphs. */

import { inputOf, pictureInputs } from "./graph.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./graph.js").LGraph} LGraph
 * @typedef {import("./graph.js").LinkId} LinkId
 * @typedef {import("./graph.js").Subgraph} Subgraph
 */

/**
 * Where a link comes from: node, its output, and the last reroute on the way, if any. The node may
 * be a subgraph's own inputs.
 *
 * @typedef {[node: any, slot: number, reroute?: any]} Origin
 */

/**
 * Link what goes into `old` to `fresh` too.
 *
 * @param {LGraph} graph
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
export function carryInputs(graph, old, fresh) {
  const pictures = pictureInputs(old);
  // By number: a new slot grows only behind the last one, and ComfyUI closes gaps.
  pictures.forEach((input, index) => {
    connect(graph, origin(graph, input.link), fresh, `images.image_${index + 1}`);
  });
  for (const input of old.inputs) {
    if (input.link == null || pictures.includes(input)) continue;
    if (inputOf(fresh, input.name)) connect(graph, origin(graph, input.link), fresh, input.name);
  }
}

/**
 * Let what hangs on the outputs of `old` hang on those of `fresh`.
 *
 * @param {LGraph} graph
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
export function carryOutputs(graph, old, fresh) {
  old.outputs.forEach((output, slot) => {
    for (const id of [...(output.links ?? [])]) {
      const link = graph.getLink(id);
      if (!link) continue;
      const { inputNode, subgraphOutput } = link.resolve(graph);
      if (inputNode) fresh.connect(slot, inputNode, link.target_slot, link.parentId);
      else subgraphOutput?.connect(fresh.outputs[slot], fresh, link.parentId);
    }
  });
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 * @returns {Record<string, Origin | undefined>} By name, for inputs of `old` that `fresh` lacks.
 */
export function linksWithoutPlace(graph, old, fresh) {
  const pictures = pictureInputs(old);
  const linked = old.inputs.filter((input) => input.link != null && !pictures.includes(input));
  const alone = linked.filter((input) => !inputOf(fresh, input.name));
  return Object.fromEntries(alone.map((input) => [input.name, origin(graph, input.link)]));
}

/**
 * @param {LGraph} graph
 * @param {Origin | undefined} from
 * @param {LGraphNode} node
 * @param {string} name Of its input.
 * @returns {boolean} False where one end is gone, or is of another type by now.
 */
export function connect(graph, from, node, name) {
  const input = inputOf(node, name);
  if (!from || !input) return false;
  const [id, slot, reroute] = from;
  const via = graph.reroutes.has(reroute) ? reroute : undefined;
  const outside = subgraphInputs(graph, id)?.[slot];
  if (outside) return Boolean(outside.connect(input, node, via));
  const source = graph.getNodeById(id);
  if (!source?.outputs[slot]) return false;
  return Boolean(source.connect(slot, node, node.inputs.indexOf(input), via));
}

/**
 * @param {LGraph} graph
 * @param {LinkId} id
 * @returns {Origin | undefined}
 */
function origin(graph, id) {
  const link = graph.getLink(id);
  if (!link) return undefined;
  const { origin_id: node, origin_slot: slot, parentId } = link;
  return parentId === undefined ? [node, slot] : [node, slot, parentId];
}

/**
 * @param {LGraph} graph
 * @param {any} id Of a node.
 * @returns Their slots, where it is those of the subgraph that `graph` is.
 */
function subgraphInputs(graph, id) {
  const { inputNode } = /** @type {Partial<Subgraph>} */ (graph);
  return inputNode && String(inputNode.id) === String(id) ? inputNode.slots : undefined;
}
