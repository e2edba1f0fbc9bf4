/** The pack's own routes, nodes/host/routes/. */

import { app } from "../../../scripts/app.js";

/**
 * @param {string} route
 * @param {unknown} [body] Sent by POST where given.
 * @returns {Promise<any>} The answer; rejects with the server's own words where it refuses.
 */
export async function ask(route, body) {
  const headers = { "X-FireRed": "1" };
  const response = await app.api.fetchApi(route, body === undefined ? { headers } : post(body, headers));
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(answer.error ?? `ComfyUI answered ${response.status}. Look at its log.`);
  }
  return answer;
}

/**
 * @param {unknown} body
 * @param {Record<string, string>} headers
 * @returns {RequestInit}
 */
function post(body, headers) {
  return {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
}
