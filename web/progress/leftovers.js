/**
 * Texts of an earlier run. ComfyUI leaves a node's text where it is, and a node that this run may
 * never reach would go on saying that it failed, or was cancelled.
 */

import { executionIds } from "../page/places.js";
import { textOn } from "./text.js";

/**
 * @param {(string | number)[]} cached Nodes whose results are still there: what they say is true.
 */
export function forgetLeftovers(cached) {
  const kept = new Set(cached.map(String));
  for (const [id, node] of executionIds()) {
    const text = textOn(node);
    if (text && !kept.has(id)) {
      node.removeWidget(text);
      node.setDirtyCanvas(true);
    }
  }
}
