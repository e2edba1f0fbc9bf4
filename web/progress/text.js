/** @typedef {import("../../../scripts/app.js").LGraphNode} LGraphNode */

const NAME = "$$node-text-preview";

/**
 * @param {LGraphNode} node
 * @returns What ComfyUI shows the text of a run in; nothing on a node of another pack.
 */
export function textOn(node) {
  const ours = node.type?.startsWith("FireRed");
  return ours ? node.widgets?.find((widget) => widget.name === NAME) : undefined;
}
