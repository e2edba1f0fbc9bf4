/**
 * What an artist can set. ComfyUI keeps the values in the user's settings; those that decide
 * something on the server are read there, in nodes/host/settings.py. Widgets could not do instead:
 * they travel in shared workflows.
 */

import { app } from "../../../scripts/app.js";
import { words } from "../words/index.js";
import { waitingJobs } from "./jobs.js";
import { jobsPanel } from "./jobs_panel.js";
import { keyPanel } from "./key_panel.js";
import { storagePanel } from "./storage_panel.js";

/** @type {import("../../../scripts/app.js").Setting[]} */
const SETTINGS = [
  {
    id: "FireRed.AllowDownloads",
    name: "Allow model downloads from Hugging Face",
    category: ["FireRed", "Downloads", "Allow"],
    tooltip:
      "Lets FireRed Load Model fetch the release chosen under hub, 58 GB, into " +
      "models/diffusers. Only safetensors and their configuration are taken, from one pinned " +
      "commit, without an account.",
    type: "boolean",
    defaultValue: false,
  },
  {
    id: "FireRed.Storage",
    name: "Kept pictures",
    category: ["FireRed", "Storage", "Storage"],
    tooltip:
      "Results from fal that are kept on the computer that runs ComfyUI, for 30 days and up to " +
      "2 GB: the same edit again, seed included, comes from there at no cost.",
    type: storagePanel,
    defaultValue: null,
  },
  {
    id: "FireRed.Key",
    name: "fal key",
    category: ["FireRed", "fal", "Key"],
    sortOrder: 5,
    tooltip:
      "Edits on fal are paid by the account of this key. It is kept in a file on the computer " +
      "that runs ComfyUI, which only its user can read, and sent to fal alone.",
    type: keyPanel,
    defaultValue: null,
  },
  {
    id: "FireRed.Jobs",
    name: "Edits on fal",
    category: ["FireRed", "fal", "Jobs"],
    sortOrder: 4,
    tooltip: "Edits that were sent and never reached a node: cancelled, or left by a restart.",
    type: jobsPanel,
    defaultValue: null,
  },
  {
    id: "FireRed.Window",
    name: "Edits at fal at once",
    category: ["FireRed", "fal", "Window"],
    sortOrder: 3,
    tooltip: "Edits at fal at once; more than your fal account runs at a time brings nothing.",
    type: "number",
    attrs: { min: 1, max: 64, step: 1 },
    defaultValue: 16,
  },
  {
    id: "FireRed.DailyLimit",
    name: "Daily limit in US dollars",
    category: ["FireRed", "fal", "DailyLimit"],
    sortOrder: 2,
    tooltip:
      "In US dollars, for this machine and its midnight; 0 is no limit. Checked before an " +
      "edit is sent, with the higher estimate.",
    type: "number",
    attrs: { min: 0, maxFractionDigits: 2 },
    defaultValue: 0,
  },
  {
    id: "FireRed.UploadHours",
    name: "Hours fal keeps large pictures",
    category: ["FireRed", "fal", "UploadHours"],
    sortOrder: 1,
    tooltip:
      "How long fal keeps reference pictures that are too large to travel inside the request; " +
      "anybody who has the address can read them until then. What else fal keeps is told " +
      "beside the key.",
    type: "number",
    attrs: { min: 1, max: 720, step: 1 },
    defaultValue: 24,
  },
];

export const settings = {
  name: "FireRed.Settings",
  settings: SETTINGS,
  setup() {
    void tellWhatWaits();
  },
};

/** Once per page load: somebody who never opens the settings has paid for these pictures too. */
async function tellWhatWaits() {
  // What went wrong is shown where the list is.
  const { jobs } = await waitingJobs().catch(() => ({ jobs: [] }));
  const ready = jobs.filter((job) => job.ready).length;
  if (ready > 0) {
    const detail = words().jobs.waiting(ready);
    app.extensionManager.toast.add({ severity: "info", summary: "FireRed", detail, life: 10_000 });
  }
}
