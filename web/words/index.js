/**
 * What the page says, in the language ComfyUI is set to. Names and tooltips of nodes and settings
 * are not here: ComfyUI translates those itself, from locales/.
 */

import { app } from "../../../scripts/app.js";
import { english } from "./en.js";
import { chinese } from "./zh.js";

/** @typedef {typeof english} Words */

/** @returns {Words} Asked for each time: the language can change while the page is open. */
export function words() {
  const language = String(app.extensionManager.setting.get("Comfy.Locale") ?? "en");
  return language.startsWith("zh") ? chinese : english;
}
