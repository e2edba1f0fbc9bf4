/**
 * The pack's notices. ComfyUI's toasts have no buttons, and go before they are read; these stay
 * until they are closed or the next run begins. They lie at the corner that ComfyUI's own leave
 * free, and under its dialogs.
 */

import { button, element, sentence } from "../page/dom.js";
import { words } from "../words/index.js";
import { cureButton } from "./cures.js";
import { nodeAt } from "../page/places.js";

/** @typedef {import("./errors.js").Failure} Failure */

const MOST = 3;

const STYLE = `
.firered-notices {
  position: fixed; z-index: 1000; right: 1.25rem; bottom: 4.5rem; width: 24rem;
  max-width: calc(100vw - 2.5rem); display: flex; flex-direction: column; gap: 0.5rem;
}
.firered-notices > section {
  position: relative; padding: 0.75rem 2.25rem 0.75rem 0.75rem; border-radius: 0.5rem;
  border: 1px solid var(--border-color); border-left: 4px solid var(--error-text);
  background: var(--comfy-menu-bg); color: var(--fg-color); font-size: 0.875rem;
  box-shadow: 0 4px 16px rgb(0 0 0 / 40%); overflow-wrap: anywhere;
}
.firered-notices h3 { margin: 0 0 0.25rem; font-size: inherit; font-weight: 600; }
.firered-notices h3 small { margin-left: 0.5rem; color: var(--descrip-text); font-weight: normal; }
.firered-notices p { margin: 0 0 0.25rem; }
.firered-notices p + p { color: var(--descrip-text); }
.firered-notices footer { display: flex; flex-wrap: wrap; gap: 0.5rem; margin-top: 0.5rem; }
.firered-notices :is(a, button) {
  padding: 0.25rem 0.75rem; border: 1px solid var(--border-color); border-radius: 0.375rem;
  background: var(--comfy-input-bg); color: var(--input-text); text-decoration: none; cursor: pointer;
}
.firered-notices :is(a, button):is(:hover, :focus-visible) { border-color: var(--fg-color); }
.firered-notices button.close {
  position: absolute; top: 0.5rem; right: 0.5rem; padding: 0 0.4rem; border-color: transparent;
  background: none;
}
`;

/**
 * What is shown now, the oldest first.
 *
 * @type {Map<string, {notice: HTMLElement, count: number}>}
 */
const shown = new Map();

/** @param {Failure} failure */
export function showNotice(failure) {
  const key = JSON.stringify([failure.node_id, failure.problem, failure.remedy]);
  const before = shown.get(key);
  if (before) {
    before.count += 1;
    tellCount(before.notice, before.count);
    return;
  }
  const notice = noticeOf(failure, () => close(key));
  shown.set(key, { notice, count: 1 });
  place().append(notice);
  for (const oldest of [...shown.keys()].slice(0, -MOST)) {
    close(oldest);
  }
}

export function clearNotices() {
  for (const key of [...shown.keys()]) {
    close(key);
  }
}

/** @param {string} key */
function close(key) {
  shown.get(key)?.notice.remove();
  shown.delete(key);
}

/**
 * @param {Failure} failure
 * @param {() => void} whenClosed
 */
function noticeOf(failure, whenClosed) {
  const title = nodeAt(failure.node_id)?.title ?? "FireRed";
  const cures = failure.cures.map((cure) => cureButton(cure, failure.node_id));
  return element(
    "section",
    { role: "alert" },
    element("h3", {}, document.createTextNode(title)),
    sentence(failure.problem),
    sentence(failure.remedy),
    element("footer", {}, ...cures.filter((cure) => cure !== null)),
    closer(whenClosed),
  );
}

/** @param {() => void} whenClosed */
function closer(whenClosed) {
  const made = button("×", whenClosed);
  made.className = "close";
  made.ariaLabel = words().errors.close;
  return made;
}

/**
 * @param {HTMLElement} notice
 * @param {number} count
 */
function tellCount(notice, count) {
  const heading = notice.querySelector("h3");
  heading?.querySelector("small")?.remove();
  heading?.append(element("small", { textContent: words().errors.times(count) }));
}

/** @returns {HTMLElement} Made with the first notice. */
function place() {
  const there = document.querySelector(".firered-notices");
  if (there instanceof HTMLElement) {
    return there;
  }
  const made = element("div", { className: "firered-notices" });
  made.append(element("style", { textContent: STYLE }));
  document.body.append(made);
  return made;
}
