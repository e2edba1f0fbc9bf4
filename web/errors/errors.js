/**
 * What went wrong in a node of the pack, in its own words and with a button to the cure. ComfyUI's
 * own notice says only that a node failed; nodes/host/failing.py sends the rest.
 */

import { app } from "../../../scripts/app.js";
import { clearNotices, showNotice } from "./notices.js";

/**
 * @typedef {object} Failure
 * @property {string} node_id As in the prompt: "12", or "3:12" inside a subgraph.
 * @property {string} problem In part the words of a server.
 * @property {string} remedy
 * @property {import("./cures.js").Cure[]} cures The likeliest first.
 */

export const errors = {
  name: "FireRed.Errors",
  setup() {
    app.api.addCustomEventListener("firered.error", (/** @type {CustomEvent<any>} */ { detail }) => {
      showNotice(detail);
    });
    app.api.addEventListener("execution_start", clearNotices);
  },
};
