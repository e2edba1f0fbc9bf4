/** The text that a run writes on the pack's nodes: all of it in view, and nothing of another run. */

import { app } from "../../../scripts/app.js";
import { forgetLeftovers } from "./leftovers.js";
import { makeRoom } from "./room.js";

export const progress = {
  name: "FireRed.Progress",
  setup() {
    app.api.addEventListener("execution_cached", ({ detail }) => forgetLeftovers(detail.nodes));
    app.api.addEventListener("progress_text", ({ detail }) => makeRoom(detail.nodeId, detail.text));
  },
};
