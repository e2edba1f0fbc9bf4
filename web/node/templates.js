/** Node menu: instructions to begin with, put into the node's prompt. */

import { app } from "../../../scripts/app.js";
import { english } from "../words/en.js";
import { words } from "../words/index.js";
import { chinese } from "../words/zh.js";
import { asOneChange, inputOf, isEditNode, widgetOf } from "./graph.js";

/**
 * @typedef {import("./graph.js").LGraphNode} LGraphNode
 * @typedef {import("../../../scripts/app.js").MenuItem} MenuItem
 * @typedef {{name: string, text: string}} Template
 */

export const templates = {
  name: "FireRed.Templates",
  /**
   * @param {LGraphNode} node
   * @returns {MenuItem[]}
   */
  getNodeMenuItems(node) {
    if (!isEditNode(node)) return [];
    const { menu, menuOfOthers, list } = words().templates;
    const others = words() === english ? chinese : english;
    return [submenu(node, menu, list), submenu(node, menuOfOthers, others.templates.list)];
  },
};

/**
 * @param {LGraphNode} node
 * @param {string} content
 * @param {Template[]} list
 * @returns {MenuItem}
 */
function submenu(node, content, list) {
  const options = list.map(({ name, text }) => ({
    content: name,
    callback: () => void paste(node, text),
  }));
  return { content, has_submenu: true, submenu: { options } };
}

/**
 * @param {LGraphNode} node
 * @param {string} text
 */
async function paste(node, text) {
  const prompt = widgetOf(node, "prompt");
  if (!prompt) return;
  if (inputOf(node, "prompt")?.link != null) return await copy(text);
  asOneChange(() => {
    prompt.value = joined(String(prompt.value), text);
    prompt.callback?.(prompt.value);
  });
  app.canvas.setDirty(true);
}

/**
 * @param {string} prompt
 * @param {string} text
 * @returns {string} Both; `text` alone where there is nothing that the artist has written.
 */
export function joined(prompt, text) {
  const written = prompt.trim();
  const untouched = [english, chinese]
    .flatMap(({ templates: { list } }) => list)
    .some((template) => template.text === written);
  return written && !untouched ? `${prompt.trimEnd()}\n${text}` : text;
}

/**
 * What is linked shows another node's text, which is not ours to change.
 *
 * @param {string} text
 */
async function copy(text) {
  const { linked, copied } = words().templates;
  // A page that is not on localhost or https has no clipboard.
  const written = await navigator.clipboard?.writeText(text).then(
    () => true,
    () => false,
  );
  const detail = written ? copied : text;
  app.extensionManager.toast.add({ severity: "info", summary: linked, detail, life: 10_000 });
}
