/**
 * Room for a text of several lines. The classic canvas gives every text two lines and cuts off the
 * rest, such as what an edit cost or how to cure an error; Nodes 2.0 makes room itself.
 */

import { app } from "../../../scripts/app.js";
import { nextPicture } from "../page/dom.js";
import { nodeAt } from "../page/places.js";
import { textOn } from "./text.js";

const MOST_LINES = 10;

/** Pixels of the graph. */
const LINE = 16;
const LETTER = 6;
const BESIDE = 50;
const AROUND = 26;

/**
 * @param {string | number} id The node's in the run.
 * @param {string} text
 */
export async function makeRoom(id, text) {
  // ComfyUI listens to the same event, and may come second.
  await nextPicture();
  const node = nodeAt(String(id));
  const shown = node && textOn(node);
  if (!shown || app.extensionManager.setting.get("Comfy.VueNodes.Enabled")) {
    return;
  }
  const lines = Math.min(lineCount(text, node.size[0]), MOST_LINES);
  /** @type {{getMinHeight?: () => number}} */ (shown.options).getMinHeight = () => lines * LINE + AROUND;
  const [width, height] = node.size;
  node.setSize([width, Math.max(height, node.computeSize()[1])]);
}

/**
 * @param {string} text
 * @param {number} width
 */
function lineCount(text, width) {
  const letters = Math.max(1, Math.floor((width - BESIDE) / LETTER));
  return text.split("\n").reduce((count, line) => count + Math.ceil((line.length || 1) / letters), 0);
}
