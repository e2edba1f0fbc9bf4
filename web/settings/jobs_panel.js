/** The list under Settings > FireRed > fal. */

import { app } from "../../../scripts/app.js";
import { button, element, failure, sentence } from "../page/dom.js";
import { words } from "../words/index.js";
import { collect, giveUp, waitingJobs } from "./jobs.js";
import { fill, panelOf } from "./panel.js";

/** @typedef {import("./jobs.js").Job} Job */

export function jobsPanel() {
  return panelOf(refresh);
}

/** @param {HTMLElement} panel */
async function refresh(panel) {
  try {
    const { jobs, spent_today: spent } = await waitingJobs();
    const list = jobs.length ? table(panel, jobs) : sentence(words().jobs.none);
    show(panel, words().jobs.spentToday(`$${spent.toFixed(2)}`), list);
  } catch (error) {
    show(panel, "", failure(error));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {string} heading
 * @param {HTMLElement} content
 */
function show(panel, heading, content) {
  const again = button(words().jobs.refresh, () => refresh(panel));
  const header = element("header", {}, element("span", { textContent: heading }), again);
  fill(panel, header, content);
}

/**
 * @param {HTMLElement} panel
 * @param {Job[]} jobs
 */
function table(panel, jobs) {
  const heads = words().jobs.columns.map((textContent) => element("th", { textContent, scope: "col" }));
  const rows = jobs.map((job) => row(panel, job));
  const head = element("thead", {}, element("tr", {}, ...heads));
  return element("table", {}, head, element("tbody", {}, ...rows));
}

/**
 * @param {HTMLElement} panel
 * @param {Job} job
 */
function row(panel, job) {
  const bring = job.ready ? [button(words().jobs.collect, () => bringHome(panel, job))] : [];
  const leave = button(words().jobs.giveUp, () => letGo(panel, job));
  return element(
    "tr",
    {},
    element("td", { className: "prompt", textContent: job.prompt, title: job.prompt }),
    element("td", { className: "figure", textContent: String(job.seed) }),
    element("td", { textContent: words().jobs.states[job.state] }),
    element("td", { className: "figure", textContent: dollars(job.cost) }),
    element("td", { className: "figure", textContent: moment(job.ordered_at) }),
    element("td", { className: "choices" }, ...bring, leave),
  );
}

/**
 * @param {HTMLElement} panel
 * @param {Job} job
 */
async function bringHome(panel, job) {
  await act(panel, async () => {
    const files = await collect(job.key);
    const detail = files.join(", ");
    const summary = words().jobs.saved;
    app.extensionManager.toast.add({ severity: "success", summary, detail, life: 6_000 });
  });
}

/**
 * @param {HTMLElement} panel
 * @param {Job} job
 */
async function letGo(panel, job) {
  const { giveUpTitle: title, giveUpReady, giveUpUnfinished } = words().jobs;
  const message = job.ready ? giveUpReady : giveUpUnfinished;
  if (await app.extensionManager.dialog.confirm({ title, message })) {
    await act(panel, () => giveUp(job.key));
  }
}

/**
 * @param {HTMLElement} panel
 * @param {() => Promise<void>} work After it the list is read anew.
 */
async function act(panel, work) {
  try {
    await work();
    await refresh(panel);
  } catch (error) {
    await refresh(panel);
    // Not a toast: it would lie over the buttons, and be gone before it is read.
    panel.append(failure(error));
  }
}

/** @param {number | string} cost */
function dollars(cost) {
  return typeof cost === "number" ? `$${cost.toFixed(4)}` : words().jobs.unknownCost;
}

/** @param {number} seconds Since 1970. */
function moment(seconds) {
  /** @type {Intl.DateTimeFormatOptions} */
  const shown = { dateStyle: "short", timeStyle: "short" };
  return new Date(seconds * 1000).toLocaleString(undefined, shown);
}
