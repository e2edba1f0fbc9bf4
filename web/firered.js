/** What the pack adds to ComfyUI's page. Values are kept by ComfyUI, in the user's settings. */

import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "FireRed.Edit",
  settings: [
    {
      // Read on the server, in nodes/host/settings.py. A widget could not ask for consent: widgets
      // travel in shared workflows.
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
  ],
});
