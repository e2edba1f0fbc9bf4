/** The fal key: put away on the server, which never shows it again. */

import { ask } from "../page/server.js";

/**
 * @typedef {object} KeyStatus
 * @property {"environment" | "file" | "none"} source Where the server finds the key.
 * @property {boolean} writable Whether it takes a key from this page.
 */

/** @returns {Promise<KeyStatus>} */
export async function keyStatus() {
  return await ask("/firered/key");
}

/**
 * @param {string} key
 * @returns {Promise<KeyStatus>}
 */
export async function saveKey(key) {
  return await ask("/firered/key", { key });
}

/** @returns {Promise<KeyStatus>} */
export async function removeKey() {
  return await ask("/firered/key/remove", {});
}

/**
 * Ask fal, at no cost, whether it knows the key in use.
 *
 * @returns {Promise<{outcome: "works" | "refused" | "unreachable", reason: string}>} The reason in
 *   the server's words where it does not work.
 */
export async function testKey() {
  return await ask("/firered/key/test", {});
}
