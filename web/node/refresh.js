/**
 * The files of a FireRed Load Model after R is pressed. ComfyUI refreshes a node's own lists; those
 * that hang on a choice, as these on `source`, are left to the pack.
 */

import { allNodes } from "./graph.js";

/**
 * A choice of `source` as the server describes it: groups of inputs, each a type and its list.
 * @typedef {{key: string, inputs: Record<string, Record<string, [string, {options: string[]}]>>}} Choice
 * @typedef {{input: {required: {source: [string, {options: Choice[]}]}}}} Definition
 */

const NODE = "FireRedLoadModel";

export const refresh = {
  name: "FireRed.Refresh",

  /** @param {Record<string, Definition>} definitions */
  refreshComboInNodes(definitions) {
    const lists = listsOf(definitions[NODE]);
    const widgets = allNodes().filter((node) => node.type === NODE).flatMap((node) => node.widgets);
    for (const widget of widgets) {
      const list = widget && lists.get(widget.name);
      if (list) {
        widget.options.values = list;
      }
    }
  },
};

/**
 * @param {Definition | undefined} definition
 * @returns {Map<string, string[]>} The name of a widget to what may be chosen there.
 */
function listsOf(definition) {
  const choices = definition?.input.required.source[1].options ?? [];
  const inputs = choices.flatMap((choice) => Object.values(choice.inputs)).flatMap(Object.entries);
  return new Map(inputs.map(([name, [, { options }]]) => [`source.${name}`, options]));
}
