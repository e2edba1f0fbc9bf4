/** What an edit on fal will cost, as a badge that follows the node's widgets and pictures. */

import { app } from "../../../scripts/app.js";
import { words } from "../words/index.js";
import {
  MEGAPIXEL,
  PRESETS,
  PRICE_PER_MEGAPIXEL,
  areaOf,
  canvasOf,
  estimate,
  wholeCells,
} from "./billing.js";
import { FAL, knownValue } from "./graph.js";
import { pictureSize } from "./pictures.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./billing.js").Size} Size
 */

const COLOURS = { fgColor: "#d6f5e0", bgColor: "#1d4a34" };

const FOLLOW_MS = 250;

export const costBadge = {
  name: "FireRed.CostBadge",
  /** @param {LGraphNode} node */
  nodeCreated(node) {
    if (node.comfyClass === FAL) node.badges.push(badgeOf(node));
  },
  setup() {
    setInterval(follow, FOLLOW_MS);
  },
};

/**
 * What was last found for each node. Nodes 2.0 shows a badge anew when something reactive that it
 * read has changed; extensions are given nothing of that kind, but what lies in one of ComfyUI's
 * stores is.
 *
 * @returns {WeakMap<LGraphNode, string>}
 */
function prices() {
  const store = /** @type {any} */ (app.extensionManager);
  store.fireredPrices ??= new WeakMap();
  return store.fireredPrices;
}

/** @param {LGraphNode} node */
function badgeOf(node) {
  prices().set(node, costOf(node));
  const badge = new window.LGraphBadge({ text: "", ...COLOURS });
  return Object.defineProperty(badge, "text", {
    enumerable: true,
    get: () => prices().get(node),
  });
}

/** Not by events: a picture that is loaded and a link further up tell this node nothing. */
function follow() {
  for (const node of app.canvas?.graph?.nodes ?? []) {
    if (node.comfyClass !== FAL) continue;
    const price = costOf(node);
    if (prices().get(node) !== price) {
      prices().set(node, price);
      app.canvas.setDirty(true, true);
    }
  }
}

/**
 * @param {LGraphNode} node
 * @returns {string} The price of one edit, or of a megapixel where its size is not known.
 */
export function costOf(node) {
  const count = knownValue(node, "num_images");
  return words().cost.perEdit(priceOf(node, count ?? 1), count);
}

/**
 * @param {LGraphNode} node
 * @param {number} count
 */
function priceOf(node, count) {
  const output = outputSize(node);
  const working = knownValue(node, "working_megapixels");
  if (output && working !== undefined) return dollars(areaOf(canvasOf(output, working)), count);
  const about = working === undefined ? undefined : working || megapixelsOf(node);
  if (about) return words().cost.about(dollars(about * MEGAPIXEL, count));
  const times = count > 1 ? ` x ${count}` : "";
  return `$${PRICE_PER_MEGAPIXEL}/MP${times}`;
}

/**
 * @param {number} pixels
 * @param {number} count
 */
function dollars(pixels, count) {
  const { exact, roundedUp } = estimate(pixels, count);
  const [low, high] = [exact, roundedUp].map((price) => `$${price.toFixed(4)}`);
  return low === high ? low : words().cost.range(low, high);
}

/**
 * @param {LGraphNode} node
 * @returns {Size | undefined} Of the result, where it is known.
 */
function outputSize(node) {
  switch (knownValue(node, "size")) {
    case "custom":
      return customSize(node);
    case "preset":
      return PRESETS[knownValue(node, "size.preset")];
    case "megapixels":
      return megapixelsSize(node);
    default:
      return matchedSize(node);
  }
}

/**
 * @param {LGraphNode} node
 * @returns {Size | undefined}
 */
function customSize(node) {
  const [width, height] = [knownValue(node, "size.width"), knownValue(node, "size.height")];
  return width && height ? { width, height } : undefined;
}

/** @param {LGraphNode} node */
function megapixelsSize(node) {
  const first = pictureSize(node, 1);
  const megapixels = megapixelsOf(node);
  return first && megapixels ? wholeCells(first, megapixels) : undefined;
}

/** @param {LGraphNode} node */
function matchedSize(node) {
  const index = knownValue(node, "size.index");
  return index ? pictureSize(node, index) : undefined;
}

/**
 * @param {LGraphNode} node
 * @returns {number | undefined}
 */
function megapixelsOf(node) {
  return knownValue(node, "size.megapixels");
}
