/** What is asked of ComfyUI's graph: nodes, their widgets, and what is linked to them. */

import { app } from "../../../scripts/app.js";

/**
 * @typedef {import("../../../scripts/app.js").LGraphNode} LGraphNode
 * @typedef {import("../../../scripts/app.js").LGraph} LGraph
 * @typedef {import("../../../scripts/app.js").Widget} Widget
 * @typedef {LGraphNode["inputs"][number]["link"]} LinkId
 * @typedef {LGraph["subgraphs"] extends Map<any, infer Inner> ? Inner : never} Subgraph
 */

export const LOCAL = "FireRedEdit";
export const FAL = "FireRedEditFal";

/** @param {LGraphNode} node */
export function isEditNode(node) {
  return node.comfyClass === LOCAL || node.comfyClass === FAL;
}

/**
 * @param {string} type
 * @returns {LGraphNode | null} A new node, not yet in any graph.
 */
export function create(type) {
  const { LiteGraph } = /** @type {any} */ (window);
  return LiteGraph.createNode(type);
}

/** @returns {LGraphNode[]} Those of the whole workflow, inside subgraphs too. */
export function allNodes() {
  const root = app.rootGraph;
  return [root, ...root.subgraphs.values()].flatMap((graph) => graph.nodes);
}

/**
 * @param {LGraphNode} node
 * @param {string} name
 * @returns {Widget | undefined}
 */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/**
 * @param {LGraphNode} node
 * @param {string} name
 */
export function inputOf(node, name) {
  return node.inputs.find((input) => input.name === name);
}

/**
 * The slots for pictures that have one, in their order.
 *
 * @param {LGraphNode} node
 */
export function pictureInputs(node) {
  return node.inputs.filter((input) => input.name.startsWith("images.") && input.link != null);
}

/**
 * What a widget will say when the graph runs.
 *
 * @param {LGraphNode} node
 * @param {string} name
 * @returns {any} Undefined where a link decides, or where there is no such widget.
 */
export function knownValue(node, name) {
  return inputOf(node, name)?.link == null ? widgetOf(node, name)?.value : undefined;
}

/**
 * Do something to the graph that one Ctrl+Z takes back.
 *
 * @param {() => void} work
 */
export function asOneChange(work) {
  app.canvas.emitBeforeChange();
  try {
    work();
  } finally {
    app.canvas.emitAfterChange();
  }
}
