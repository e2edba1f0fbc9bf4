/** What is kept on disk, under Settings > FireRed > Storage. */

import { app } from "../../../scripts/app.js";
import { button, element, failure, sentence } from "../page/dom.js";
import { words } from "../words/index.js";
import { fill, panelOf } from "./panel.js";
import { clearStorage, storage } from "./storage.js";

/** @typedef {import("./storage.js").Storage} Storage */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function storagePanel() {
  return panelOf((panel) => showing(panel, storage));
}

/**
 * @param {HTMLElement} panel
 * @param {() => Promise<Storage>} found
 */
async function showing(panel, found) {
  const again = button(words().cache.refresh, () => showing(panel, storage));
  try {
    const kept = await found();
    const row = element("div", { className: "row" }, clearing(panel, kept), again);
    fill(panel, ...told(kept), row, sentence(words().cache.memory));
  } catch (error) {
    fill(panel, failure(error), element("div", { className: "row" }, again));
  }
}

/** @param {Storage} kept */
function told({ delivered, waiting, records }) {
  const { delivered: ofDelivered, waiting: ofWaiting, records: ofRecords } = words().cache;
  return [
    sentence(ofDelivered(delivered.count, size(delivered.bytes))),
    sentence(ofWaiting(waiting.count, size(waiting.bytes))),
    sentence(ofRecords(records.count, size(records.bytes))),
  ];
}

/**
 * @param {HTMLElement} panel
 * @param {Storage} kept
 */
function clearing(panel, { delivered }) {
  const made = button(words().cache.clear, async () => {
    const { confirmTitle: title, confirm: message } = words().cache;
    if (await app.extensionManager.dialog.confirm({ title, message, type: "delete" })) {
      await showing(panel, clearStorage);
    }
  });
  made.disabled = delivered.count === 0;
  return made;
}

/** @param {number} bytes */
function size(bytes) {
  const steps = Math.floor(Math.log10(Math.max(bytes, 1)) / 3);
  const unit = Math.min(steps, UNITS.length - 1);
  const value = bytes / 1000 ** unit;
  return `${value.toFixed(unit > 0 && value < 10 ? 1 : 0)} ${UNITS[unit]}`;
}
