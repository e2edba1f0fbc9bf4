/**
 * The values of a node's widgets in the node of the other engine.
 *
 * What the artist left at the engine's default becomes the other engine's default; what was changed
 * is kept. What the other engine has no widget for is remembered for the way back.
 */

import { widgetOf } from "./graph.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("./swap_links.js").Origin} Origin
 */

/**
 * What a node keeps of the engine it was swapped from.
 *
 * @typedef {object} Memory
 * @property {Record<string, any>} [values] Of widgets that only the other has, where changed.
 * @property {string[]} [chosen] Widgets that stand on this engine's default by the artist's choice.
 * @property {Record<string, Origin | undefined>} [links] Into inputs that only the other has.
 * @property {[number, number]} [size] Of a node that had to grow.
 */

/**
 * Set the widgets of `fresh` to what those of `old` say.
 *
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 * @param {Memory} memory Of `old`.
 */
export function carryValues(old, fresh, memory) {
  const chosen = memory.chosen ?? [];
  // In their order: setting a choice makes the widgets that hang on it.
  for (const { name, value } of old.widgets ?? []) {
    const widget = widgetOf(fresh, name);
    const values = [defaultOf(old, name), defaultOf(fresh, name)];
    if (widget) widget.value = carried(value, values, chosen.includes(name));
  }
  for (const [name, value] of Object.entries(memory.values ?? {})) {
    const widget = widgetOf(fresh, name);
    if (widget) widget.value = value;
  }
}

/**
 * @param {any} value
 * @param {any[]} defaults Of the engine it is from, and of the other.
 * @param {boolean} chosen Whether the artist wants it although it is the default.
 */
export function carried(value, [own, others], chosen) {
  return value === own && !chosen ? others : value;
}

/**
 * @param {LGraphNode} old
 * @param {LGraphNode} fresh
 * @returns {Memory} What `fresh` cannot show of `old`; empty parts are left out.
 */
export function memoryOf(old, fresh) {
  const widgets = (old.widgets ?? []).filter(({ name, value }) => value !== defaultOf(old, name));
  const others = widgets.filter(({ name }) => isInput(old, name) && !isInput(fresh, name));
  const chosen = widgets.filter(({ name, value }) => value === defaultOf(fresh, name));
  /** @type {Memory} */
  const memory = {};
  if (others.length) memory.values = Object.fromEntries(others.map((w) => [w.name, w.value]));
  if (chosen.length) memory.chosen = chosen.map((widget) => widget.name);
  return memory;
}

/**
 * @param {LGraphNode} node
 * @param {string} name
 */
function isInput(node, name) {
  return name in definition(node);
}

/**
 * @param {LGraphNode} node
 * @param {string} name
 * @returns {any} What ComfyUI places the node with.
 */
function defaultOf(node, name) {
  return definition(node)[name]?.default;
}

/**
 * @param {LGraphNode} node
 * @returns {Record<string, {default?: unknown}>} Its inputs as ComfyUI's server describes them.
 */
function definition(node) {
  return /** @type {any} */ (node.constructor).nodeData.inputs;
}
