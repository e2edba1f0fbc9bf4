/** What the pack adds to ComfyUI's page. Values are kept by ComfyUI, in the user's settings. */

import { app } from "../../scripts/app.js";
import { waitingJobs } from "./fal_jobs.js";
import { falPanel } from "./fal_panel.js";

// Settings with values are read on the server, in nodes/host/settings.py. Widgets could not do
// instead: they travel in shared workflows.
app.registerExtension({
  name: "FireRed.Edit",
  settings: [
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
      id: "FireRed.Jobs",
      name: "Edits on fal",
      category: ["FireRed", "fal", "Jobs"],
      sortOrder: 4,
      tooltip: "Edits that were sent and never reached a node: cancelled, or left by a restart.",
      type: falPanel,
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
        "anybody who has the address can read them until then.",
      type: "number",
      attrs: { min: 1, max: 720, step: 1 },
      defaultValue: 24,
    },
  ],
  setup() {
    void tellWhatWaits();
  },
});

/** Once per page load: somebody who never opens the settings has paid for these pictures too. */
async function tellWhatWaits() {
  // What went wrong is shown where the list is.
  const { jobs } = await waitingJobs().catch(() => ({ jobs: [] }));
  const ready = jobs.filter((job) => job.ready).length;
  if (ready > 0) {
    const edits = ready === 1 ? "1 edit on fal is" : `${ready} edits on fal are`;
    const wait = ready === 1 ? "waits" : "wait";
    const detail = `${edits} paid and ${wait} to be collected: Settings > FireRed > fal`;
    app.extensionManager.toast.add({ severity: "info", summary: "FireRed", detail, life: 10_000 });
  }
}
