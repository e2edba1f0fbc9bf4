/**
 * The key under Settings > FireRed > fal. What is typed goes to the server and nowhere else: the
 * field is no setting's own, so ComfyUI does not keep it, and it is empty once it is sent.
 */

import { app } from "../../../scripts/app.js";
import { button, element, failure, outsideLink, sentence } from "../page/dom.js";
import { words } from "../words/index.js";
import { keyStatus, removeKey, saveKey, testKey } from "./key.js";
import { fill, panelOf } from "./panel.js";

/** @typedef {import("./key.js").KeyStatus} KeyStatus */

const KEYS_PAGE = "https://fal.ai/dashboard/keys";

export function keyPanel() {
  return panelOf(refresh);
}

/** @param {HTMLElement} panel */
async function refresh(panel) {
  try {
    show(panel, await keyStatus());
  } catch (error) {
    fill(panel, failure(error));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {KeyStatus} status
 * @param {...HTMLElement} told What has just come of a button.
 */
function show(panel, status, ...told) {
  const controls = status.writable
    ? [field(panel, status), choices(panel, status)]
    : [sentence(words().key.remote)];
  fill(panel, heading(status), ...controls, ...told, stored());
}

/** @param {KeyStatus} status */
function heading({ source }) {
  const said = element("span", { textContent: words().key.source[source] });
  if (source === "none") {
    said.append(" ", outsideLink(KEYS_PAGE, "fal.ai/dashboard/keys"));
  }
  return element("header", {}, said);
}

/**
 * @param {HTMLElement} panel
 * @param {KeyStatus} status
 */
function field(panel, { source }) {
  const typed = element("input", {
    type: "password",
    autocomplete: "off",
    spellcheck: false,
    disabled: source === "environment",
    placeholder: words().key[source === "environment" ? "fixed" : "placeholder"],
    ariaLabel: words().key.label,
  });
  const save = button(words().key.save, () => put(panel, typed));
  save.disabled = true;
  typed.addEventListener("input", () => {
    save.disabled = !typed.value.trim();
  });
  typed.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      save.click();
    }
  });
  return element("div", { className: "row" }, typed, save);
}

/**
 * @param {HTMLElement} panel
 * @param {HTMLInputElement} typed
 */
async function put(panel, typed) {
  const key = typed.value.trim();
  typed.value = "";
  if (!key) {
    return;
  }
  await act(panel, async () => {
    show(panel, await saveKey(key), good(words().key.saved));
  });
}

/**
 * @param {HTMLElement} panel
 * @param {KeyStatus} status
 */
function choices(panel, { source }) {
  const test = button(words().key.test, () => act(panel, () => tryOut(panel)));
  const remove = button(words().key.remove, () => act(panel, () => takeAway(panel)));
  const offered = { none: [], environment: [test], file: [test, remove] }[source];
  return element("div", { className: "row" }, ...offered);
}

/** @param {HTMLElement} panel */
async function tryOut(panel) {
  const { outcome, reason } = await testKey();
  const said = words().key.outcome[outcome];
  tell(panel, outcome === "works" ? good(said) : failure(`${said} ${reason}`));
}

/** @param {HTMLElement} panel */
async function takeAway(panel) {
  const { confirmTitle: title, confirmRemoval: message } = words().key;
  if (await app.extensionManager.dialog.confirm({ title, message, type: "delete" })) {
    show(panel, await removeKey(), good(words().key.removed));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {() => Promise<void>} work Its failure is shown in the panel.
 */
async function act(panel, work) {
  try {
    await work();
  } catch (error) {
    tell(panel, failure(error));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {HTMLElement} said Takes the place of what was said before.
 */
function tell(panel, said) {
  panel.querySelectorAll(":scope > [role]").forEach((before) => before.remove());
  panel.querySelector("details")?.before(said);
}

/** @param {string} textContent */
function good(textContent) {
  return element("p", { className: "good", textContent, role: "status" });
}

/** What fal keeps of an edit, and for how long. */
function stored() {
  const { summary, items } = words().key.stored;
  const list = items.map((textContent) => element("li", { textContent }));
  return element(
    "details",
    {},
    element("summary", { textContent: summary }),
    element("ul", {}, ...list),
  );
}
