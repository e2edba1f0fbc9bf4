/** Node menu: one edit node in place of the other, with everything that both have in common. */

import { app } from "../../../scripts/app.js";
import { words } from "../words/index.js";
import {
  FAL,
  LOCAL,
  asOneChange,
  create,
  inputOf,
  isEditNode,
  pictureInputs,
  widgetOf,
} from "./graph.js";
import { carryInputs, carryOutputs, connect, linksWithoutPlace } from "./swap_links.js";
import { giveModel } from "./swap_model.js";
import { carryValues, memoryOf } from "./swap_values.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./graph.js").LGraph} LGraph
 * @typedef {import("../../../scripts/app.js").MenuItem} MenuItem
 * @typedef {import("./swap_values.js").Memory} Memory
 */

/** The property with what a node keeps of the other engine. It travels in the workflow. */
export const MEMORY = "FireRed other engine";

const NAME = "Node name for S&R";
const LOCAL_PICTURES = 3;
const TOAST_MS = 10_000;

export const swap = {
  name: "FireRed.Swap",
  /**
   * @param {LGraphNode} node
   * @returns {(MenuItem | null)[]}
   */
  getNodeMenuItems(node) {
    if (!isEditNode(node)) return [];
    const content = node.type === LOCAL ? words().swap.useFal : words().swap.useLocal;
    return [null, { content, callback: () => swapEngine(node) }];
  },
};

/** @param {LGraphNode} old */
function swapEngine(old) {
  const fresh = create(old.type === LOCAL ? FAL : LOCAL);
  const { graph } = old;
  if (!fresh || !graph) return;
  asOneChange(() => replace(graph, old, fresh));
  app.canvas.selectItems([fresh]);
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
function replace(graph, old, fresh) {
  const memory = /** @type {Memory} */ (old.properties[MEMORY] ?? {});
  takeLook(old, fresh);
  graph.add(fresh);
  fresh.pos = [old.pos[0], old.pos[1]];
  carryValues(old, fresh, memory);
  carryInputs(graph, old, fresh);
  for (const [name, origin] of Object.entries(memory.links ?? {})) {
    connect(graph, origin, fresh, name);
  }
  takeLabels(old, fresh);
  remember(graph, old, fresh);
  takeSize(old, fresh, memory);
  carryOutputs(graph, old, fresh);
  graph.remove(old);
  if (fresh.type === LOCAL) prepareLocal(graph, fresh);
}

/**
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
function takeLook(old, fresh) {
  const { mode, color, bgcolor, boxcolor, shape, showAdvanced } = old;
  Object.assign(fresh, { mode, color, bgcolor, boxcolor, shape, showAdvanced });
  fresh.flags = { ...old.flags };
  if (old.title !== old.constructor.title) fresh.title = old.title;
  const { [NAME]: name, [MEMORY]: _, ...properties } = old.properties;
  Object.assign(fresh.properties, properties);
  // An artist may have given it a name of its own.
  if (name !== old.type && name !== undefined) fresh.properties[NAME] = name;
}

/**
 * What the artist has renamed.
 *
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
function takeLabels(old, fresh) {
  for (const { name, label } of old.inputs) {
    const named = [inputOf(fresh, name), widgetOf(fresh, name)];
    for (const one of named) if (one && label) one.label = label;
  }
  old.outputs.forEach(({ label }, slot) => {
    if (label) fresh.outputs[slot].label = label;
  });
}

/**
 * @param {LGraph} graph
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 */
function remember(graph, old, fresh) {
  const memory = memoryOf(old, fresh);
  const links = linksWithoutPlace(graph, old, fresh);
  if (Object.keys(links).length) memory.links = links;
  if (heightOf(fresh) > old.size[1]) memory.size = [old.size[0], old.size[1]];
  // JSON, as the property is loaded again: nothing in it may be ComfyUI's own object.
  if (Object.keys(memory).length) fresh.properties[MEMORY] = JSON.parse(JSON.stringify(memory));
}

/**
 * The size of `old`, or what it was before it had to grow, where nobody has changed it since.
 *
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 * @param {Memory} memory Of `old`.
 */
function takeSize(old, fresh, memory) {
  const before = memory.size;
  const grown = before && old.size[0] === before[0] && old.size[1] === heightOf(old);
  const [width, height] = grown ? before : old.size;
  fresh.setSize([width, Math.max(height, heightOf(fresh))]);
}

/** @param {LGraphNode} node */
function heightOf(node) {
  return node.computeSize()[1];
}

/**
 * See to what only the local engine needs, and say so.
 *
 * @param {LGraph} graph
 * @param {LGraphNode} node
 */
function prepareLocal(graph, node) {
  const linked = inputOf(node, "model")?.link != null;
  if (!linked && giveModel(graph, node)) tell("info", words().swap.loaderAdded);
  const pictures = pictureInputs(node).length;
  if (pictures > LOCAL_PICTURES) tell("warn", words().swap.tooManyPictures(pictures));
}

/**
 * @param {"info" | "warn"} severity
 * @param {string} detail
 */
function tell(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "FireRed", detail, life: TOAST_MS });
}
