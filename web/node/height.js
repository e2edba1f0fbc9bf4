/** Room to write in: ComfyUI gives a new node the least height, two lines for a prompt. */

import { isEditNode } from "./graph.js";

/** @typedef {import("./graph.js").LGraphNode} LGraphNode */

const ROOM = 140;

export const height = {
  name: "FireRed.Height",
  /** @param {LGraphNode} node */
  nodeCreated(node) {
    if (!isEditNode(node)) return;
    node.setSize([node.size[0], node.size[1] + ROOM]);
    keepSavedSize(node);
  },
};

/**
 * Loading the choice of a size shrinks a node to its least height, after its own was read.
 *
 * @param {LGraphNode} node
 */
function keepSavedSize(node) {
  const { onConfigure } = node;
  node.onConfigure = function (saved) {
    onConfigure?.call(this, saved);
    if (saved.size) this.setSize([saved.size[0], saved.size[1]]);
  };
}
