/**
 * Tooltips of inputs that a choice brings along, such as width under size.
 *
 * What a node's description says of these, ComfyUI shows in place of any translation. Where it says
 * nothing, ComfyUI looks into locales/, which has their texts in both languages.
 */

/**
 * @typedef {NonNullable<import("../../../scripts/app.js").ComfyExtension["beforeRegisterNodeDef"]>} Register
 * @typedef {[unknown, {tooltip?: string, options?: unknown[]}?]} Input
 * @typedef {{inputs: Record<string, Record<string, Input>>}} Choice
 */

const OURS = /^FireRed/;

export const tooltips = {
  name: "FireRed.Tooltips",
  /** @type {Register} */
  beforeRegisterNodeDef(_type, definition) {
    if (!OURS.test(definition.name)) return;
    for (const group of Object.values(definition.input ?? {})) {
      Object.values(group ?? {}).forEach(forgetBelow);
    }
  },
};

/** @param {Input} input */
function forgetBelow([, details]) {
  const choices = (details?.options ?? []).filter(isChoice);
  for (const group of choices.flatMap(({ inputs }) => Object.values(inputs))) {
    for (const [, each] of Object.values(group)) delete each?.tooltip;
  }
}

/**
 * @param {unknown} option A name, or a choice with inputs of its own.
 * @returns {option is Choice}
 */
function isChoice(option) {
  return typeof option === "object" && option !== null && "inputs" in option;
}
