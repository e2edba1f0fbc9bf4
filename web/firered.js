/** What the pack adds to ComfyUI's page: one extension for each thing an artist can use. */

import { app } from "../../scripts/app.js";
import { errors } from "./errors/errors.js";
import { tooltips } from "./locale/tooltips.js";
import { costBadge } from "./node/cost_badge.js";
import { height } from "./node/height.js";
import { refresh } from "./node/refresh.js";
import { swap } from "./node/swap.js";
import { templates } from "./node/templates.js";
import { progress } from "./progress/progress.js";
import { settings } from "./settings/settings.js";

const FEATURES = [
  costBadge,
  errors,
  height,
  progress,
  refresh,
  settings,
  swap,
  templates,
  tooltips,
];

for (const extension of FEATURES) {
  app.registerExtension(extension);
}
