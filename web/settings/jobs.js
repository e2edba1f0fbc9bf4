/** The routes of nodes/host/routes.py. */

import { app } from "../../scripts/app.js";

/**
 * An edit on fal that nobody waits for any more.
 *
 * @typedef {object} Job
 * @property {string} key
 * @property {string} prompt
 * @property {number} seed
 * @property {string} state In words.
 * @property {boolean} ready Whether it can be collected.
 * @property {number} ordered_at Seconds since 1970.
 * @property {number | string} cost US dollars, or "unknown".
 */

/**
 * @returns {Promise<{jobs: Job[], spent_today: number}>} The latest first; US dollars.
 */
export async function waitingJobs() {
  return await ask("/firered/jobs", {});
}

/**
 * Save a finished edit into ComfyUI's output folder.
 *
 * @param {string} key
 * @returns {Promise<string[]>} The names of the files.
 */
export async function collect(key) {
  const body = JSON.stringify({ key });
  const headers = { "Content-Type": "application/json" };
  const answer = await ask("/firered/jobs/collect", { method: "POST", headers, body });
  return answer.files;
}

/**
 * @param {string} route
 * @param {RequestInit} options
 * @returns {Promise<any>} The answer; rejects with the server's own words where it refuses.
 */
async function ask(route, options) {
  const headers = { ...options.headers, "X-FireRed": "1" };
  const response = await app.api.fetchApi(route, { ...options, headers });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(answer.error ?? `ComfyUI answered ${response.status}. Look at its log.`);
  }
  return answer;
}
