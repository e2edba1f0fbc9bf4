/** Where the buttons of a notice lead. */

import { app } from "../../../scripts/app.js";
import { button, nextPicture, outsideLink } from "../page/dom.js";
import { words } from "../words/index.js";
import { goTo, nodeAt } from "../page/places.js";

/** @typedef {"settings" | "billing" | "node"} Cure */

const BILLING = "https://fal.ai/dashboard/billing";

const SECTION = "FireRed";
const PATIENCE_MS = 2_000;

/**
 * @param {Cure} cure
 * @param {string} nodeId
 * @returns {HTMLElement | null} Nothing for a node that is gone.
 */
export function cureButton(cure, nodeId) {
  if (cure === "billing") {
    return outsideLink(BILLING, words().errors.billing);
  }
  if (cure === "settings") {
    return button(words().errors.settings, openSettings);
  }
  return nodeAt(nodeId) ? button(words().errors.node, () => showNode(nodeId)) : null;
}

/** @param {string} nodeId */
async function showNode(nodeId) {
  const node = nodeAt(nodeId);
  if (node) {
    await goTo(node);
  }
}

async function openSettings() {
  await app.extensionManager.command.execute("Comfy.ShowSettingsDialog");
  // ComfyUI opens them at its own section; a press on ours is all there is to go on.
  const until = performance.now() + PATIENCE_MS;
  while (performance.now() < until) {
    const entry = sectionEntry();
    if (entry) {
      entry.click();
      return;
    }
    await nextPicture();
  }
}

/** @returns {HTMLElement | null} Its name alone would be found in many places. */
function sectionEntry() {
  return document.querySelector(`[role="dialog"] [data-nav-id="root/${SECTION}"]`);
}
