/** The list under Settings > FireRed > fal. Prompts are foreign text: nothing here parses HTML. */

import { app } from "../../scripts/app.js";
import { collect, waitingJobs } from "./fal_jobs.js";

/** @typedef {import("./fal_jobs.js").Job} Job */

const STYLE = `
.firered-fal {
  width: 43rem; max-width: 100%; overflow-x: auto; color: var(--fg-color); font-size: 0.875rem;
}
.firered-fal header { display: flex; align-items: center; gap: 1rem; }
.firered-fal header span:empty { display: none; }
.firered-fal table { width: 100%; margin-top: 0.5rem; border-collapse: collapse; }
.firered-fal th { color: var(--descrip-text); font-weight: normal; text-align: left; }
.firered-fal th, .firered-fal td { padding: 0.35rem 0.75rem 0.35rem 0; vertical-align: middle; }
.firered-fal tbody tr { border-top: 1px solid var(--border-color); }
.firered-fal .prompt { max-width: 10rem; overflow: hidden; text-overflow: ellipsis; }
.firered-fal .prompt, .firered-fal .figure { white-space: nowrap; }
.firered-fal td:last-child { padding-right: 0; text-align: right; }
.firered-fal p { margin: 0.5rem 0 0; color: var(--descrip-text); }
.firered-fal p.error { color: var(--error-text); }
.firered-fal button {
  padding: 0.25rem 0.75rem; border: 1px solid var(--border-color); border-radius: 0.375rem;
  background: var(--comfy-input-bg); color: var(--input-text); cursor: pointer;
}
.firered-fal button:hover { border-color: var(--fg-color); }
.firered-fal button:disabled { opacity: 0.5; cursor: default; }
`;

const COLUMNS = ["Prompt", "Seed", "State", "Cost", "Ordered", ""];

/**
 * What ComfyUI shows in place of a setting's own control.
 *
 * @returns {HTMLElement} Filled as soon as the server has answered.
 */
export function falPanel() {
  const panel = element("section", { className: "firered-fal" });
  void refresh(panel);
  return panel;
}

/** @param {HTMLElement} panel */
async function refresh(panel) {
  try {
    const { jobs, spent_today: spent } = await waitingJobs();
    const list = jobs.length ? table(panel, jobs) : sentence("No edit waits to be collected.");
    fill(panel, `Spent today: $${spent.toFixed(2)}`, list);
  } catch (error) {
    fill(panel, "", failure(error));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {string} heading
 * @param {HTMLElement} content
 */
function fill(panel, heading, content) {
  const again = button("Refresh", () => refresh(panel));
  const header = element("header", {}, element("span", { textContent: heading }), again);
  panel.replaceChildren(element("style", { textContent: STYLE }), header, content);
}

/**
 * @param {HTMLElement} panel
 * @param {Job[]} jobs
 */
function table(panel, jobs) {
  const heads = COLUMNS.map((textContent) => element("th", { textContent, scope: "col" }));
  const rows = jobs.map((job) => row(panel, job));
  const head = element("thead", {}, element("tr", {}, ...heads));
  return element("table", {}, head, element("tbody", {}, ...rows));
}

/**
 * @param {HTMLElement} panel
 * @param {Job} job
 */
function row(panel, job) {
  const bring = job.ready ? [button("Collect", () => bringHome(panel, job))] : [];
  return element(
    "tr",
    {},
    element("td", { className: "prompt", textContent: job.prompt, title: job.prompt }),
    element("td", { className: "figure", textContent: String(job.seed) }),
    element("td", { textContent: job.state }),
    element("td", { className: "figure", textContent: dollars(job.cost) }),
    element("td", { className: "figure", textContent: moment(job.ordered_at) }),
    element("td", {}, ...bring),
  );
}

/**
 * @param {HTMLElement} panel
 * @param {Job} job
 */
async function bringHome(panel, job) {
  try {
    const files = await collect(job.key);
    const detail = files.join(", ");
    const summary = "Saved in the output folder";
    app.extensionManager.toast.add({ severity: "success", summary, detail, life: 6_000 });
    await refresh(panel);
  } catch (error) {
    await refresh(panel);
    // Not a toast: it would lie over the buttons, and be gone before it is read.
    panel.append(failure(error));
  }
}

/** @param {number | string} cost */
function dollars(cost) {
  return typeof cost === "number" ? `$${cost.toFixed(4)}` : cost;
}

/** @param {number} seconds Since 1970. */
function moment(seconds) {
  const shown = { dateStyle: "short", timeStyle: "short" };
  return new Date(seconds * 1000).toLocaleString(undefined, shown);
}

/** @param {string} textContent */
function sentence(textContent) {
  return element("p", { textContent });
}

/** @param {Error} error */
function failure(error) {
  return element("p", { className: "error", textContent: error.message, role: "alert" });
}

/**
 * A button that cannot be pressed again before its work is done.
 *
 * @param {string} textContent
 * @param {() => Promise<void>} work
 */
function button(textContent, work) {
  const made = element("button", { type: "button", textContent });
  made.addEventListener("click", async () => {
    made.disabled = true;
    await work();
    made.disabled = false;
  });
  return made;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
