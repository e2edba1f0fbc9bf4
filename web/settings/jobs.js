/** Edits on fal that nobody waits for any more, as the server tells of them. */

import { ask } from "../page/server.js";

/**
 * @typedef {object} Job
 * @property {string} key
 * @property {string} prompt
 * @property {number} seed
 * @property {"uncertain" | "queued" | "cancelling" | "result" | "done"} state As in the journal.
 * @property {boolean} ready Whether it can be collected.
 * @property {number} ordered_at Seconds since 1970.
 * @property {number | string} cost US dollars, or "unknown".
 */

/**
 * @returns {Promise<{jobs: Job[], spent_today: number}>} The latest first; US dollars.
 */
export async function waitingJobs() {
  return await ask("/firered/jobs");
}

/**
 * Save a finished edit into ComfyUI's output folder.
 *
 * @param {string} key
 * @returns {Promise<string[]>} The names of the files.
 */
export async function collect(key) {
  const answer = await ask("/firered/jobs/collect", { key });
  return answer.files;
}

/**
 * Wait for an edit no more: whatever becomes of it, it is not listed again.
 *
 * @param {string} key
 */
export async function giveUp(key) {
  await ask("/firered/jobs/give_up", { key });
}
