/** What the pack adds to ComfyUI's page: one extension for each thing an artist can use. */

import { app } from "../../scripts/app.js";
import { settings } from "./settings/settings.js";

for (const extension of [settings]) {
  app.registerExtension(extension);
}
