/** Nodes by the ids that a run gives them: "12", or "3:12" for node 12 inside subgraph node 3. */

import { app } from "../../../scripts/app.js";
import { nextPicture } from "./dom.js";

/** @typedef {import("../../../scripts/app.js").LGraphNode} LGraphNode */
/** @typedef {import("../../../scripts/app.js").LGraph} LGraph */

/**
 * @param {LGraph} [graph]
 * @param {string} [before]
 * @returns {Generator<[string, LGraphNode]>} Every node that a run may reach, subgraphs included.
 */
export function* executionIds(graph = app.rootGraph, before = "") {
  for (const node of graph.nodes) {
    const id = `${before}${node.id}`;
    yield [id, node];
    if (node.isSubgraphNode()) {
      yield* executionIds(node.subgraph, `${id}:`);
    }
  }
}

/**
 * @param {string} id
 * @returns {LGraphNode | undefined} Nothing where the graph was changed since.
 */
export function nodeAt(id) {
  for (const [found, node] of executionIds()) {
    if (found === id) {
      return node;
    }
  }
  return undefined;
}

/**
 * Select a node and bring it to the middle, opening the subgraph that it is in.
 *
 * @param {LGraphNode} node
 */
export async function goTo(node) {
  const { canvas } = app;
  const { graph } = node;
  if (!graph) {
    return;
  }
  if (canvas.graph !== graph) {
    canvas.setGraph(graph);
    // The canvas is itself again, and knows the node's place, after the next two pictures.
    await nextPicture();
    await nextPicture();
  }
  canvas.selectNode(node);
  canvas.animateToBounds(node.boundingRect);
}
