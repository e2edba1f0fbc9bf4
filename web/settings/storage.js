/** What results from fal take on the server's disk. */

import { ask } from "../page/server.js";

/**
 * @typedef {object} Room
 * @property {number} count Pictures.
 * @property {number} bytes
 */

/**
 * @typedef {object} Storage
 * @property {Room} delivered Clearing removes these.
 * @property {Room} waiting Those that wait to be collected, or are in the making.
 * @property {{count: number, bytes: number}} records Uploads that are remembered, and what the
 *   journal that holds them takes.
 */

/** @returns {Promise<Storage>} */
export async function storage() {
  return await ask("/firered/cache");
}

/** @returns {Promise<Storage>} What is left. */
export async function clearStorage() {
  return await ask("/firered/cache/clear", {});
}
