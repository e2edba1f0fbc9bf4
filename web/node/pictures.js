/** How large the pictures at a node are, where the page can know that before a run. */

import { allNodes, pictureInputs } from "./graph.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./graph.js").LGraph} LGraph
 * @typedef {import("./graph.js").LinkId} LinkId
 * @typedef {import("./graph.js").Subgraph} Subgraph
 * @typedef {import("./billing.js").Size} Size
 */

/**
 * @param {LGraphNode} node
 * @param {number} number From 1, as the prompt counts them.
 * @returns {Size | undefined}
 */
export function pictureSize(node, number) {
  const { graph } = node;
  if (!graph) return undefined;
  // Those before it as well: what is not one loaded picture may be a batch, and shifts its number.
  const sizes = pictureInputs(node)
    .slice(0, number)
    .map((input) => sizeBehind(graph, input.link));
  return sizes.length === number && sizes.every(Boolean) ? sizes[number - 1] : undefined;
}

/**
 * @param {LGraph} graph
 * @param {LinkId | undefined} id
 * @returns {Size | undefined}
 */
function sizeBehind(graph, id) {
  const link = graph.getLink(id);
  if (!link) return undefined;
  const { outputNode: origin, subgraphInput } = link.resolve(graph);
  if (subgraphInput) return sizeOutside(graph, link.origin_slot);
  if (!origin || origin.mode !== 0) return undefined;
  if (origin.isSubgraphNode()) return sizeInside(origin.subgraph, link.origin_slot);
  if (origin.type === "Reroute") return sizeBehind(graph, origin.inputs[0].link);
  return origin.type === "LoadImage" ? loadedSize(origin) : undefined;
}

/**
 * @param {Subgraph} subgraph
 * @param {number} slot
 */
function sizeInside(subgraph, slot) {
  return sizeBehind(subgraph, subgraph.outputNode.slots[slot]?.linkIds[0]);
}

/**
 * @param {LGraph} subgraph
 * @param {number} slot
 */
function sizeOutside(subgraph, slot) {
  const hosts = allNodes().filter((node) => node.isSubgraphNode() && node.subgraph === subgraph);
  // Placed twice, it may get two pictures.
  const [host, another] = hosts;
  return host?.graph && !another ? sizeBehind(host.graph, host.inputs[slot]?.link) : undefined;
}

/**
 * @param {LGraphNode} node
 * @returns {Size | undefined}
 */
function loadedSize(node) {
  const picture = /** @type {{imgs?: HTMLImageElement[]}} */ (node).imgs?.[0];
  if (!picture?.complete || !picture.naturalWidth) return undefined;
  return { width: picture.naturalWidth, height: picture.naturalHeight };
}
