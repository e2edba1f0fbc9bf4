/** What the panels under Settings > FireRed have in common. */

import { element } from "../page/dom.js";

const STYLE = `
.firered-panel {
  width: 43rem; max-width: 100%; overflow-x: auto; color: var(--fg-color); font-size: 0.875rem;
}
.firered-panel header, .firered-panel .row {
  display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem;
}
.firered-panel .row { margin-top: 0.5rem; gap: 0.5rem; }
.firered-panel :is(header span, .row):empty { display: none; }
.firered-panel table { width: 100%; margin-top: 0.5rem; border-collapse: collapse; }
.firered-panel th { color: var(--descrip-text); font-weight: normal; text-align: left; }
.firered-panel th, .firered-panel td { padding: 0.35rem 0.75rem 0.35rem 0; vertical-align: middle; }
.firered-panel tbody tr { border-top: 1px solid var(--border-color); }
.firered-panel .prompt { max-width: 10rem; overflow: hidden; text-overflow: ellipsis; }
.firered-panel .prompt, .firered-panel .figure, .firered-panel .choices { white-space: nowrap; }
.firered-panel td:last-child { padding-right: 0; text-align: right; }
.firered-panel .choices button + button { margin-left: 0.5rem; }
.firered-panel p { margin: 0.5rem 0 0; color: var(--descrip-text); }
.firered-panel p.error { color: var(--error-text); }
.firered-panel p.good { color: var(--fg-color); }
.firered-panel details { margin-top: 0.5rem; color: var(--descrip-text); }
.firered-panel summary { cursor: pointer; }
.firered-panel ul { margin: 0.25rem 0 0; padding-left: 1.25rem; list-style: disc; }
.firered-panel a { color: inherit; text-decoration: underline; }
.firered-panel input {
  flex: 1; min-width: 12rem; padding: 0.25rem 0.5rem; border: 1px solid var(--border-color);
  border-radius: 0.375rem; background: var(--comfy-input-bg); color: var(--input-text);
}
.firered-panel button {
  padding: 0.25rem 0.75rem; border: 1px solid var(--border-color); border-radius: 0.375rem;
  background: var(--comfy-input-bg); color: var(--input-text); cursor: pointer;
}
.firered-panel button:hover { border-color: var(--fg-color); }
.firered-panel :is(button, input):disabled { opacity: 0.5; cursor: default; }
`;

/**
 * What ComfyUI shows in place of a setting's own control.
 *
 * @param {(panel: HTMLElement) => Promise<void>} refresh Fills it, now and whenever it has to.
 */
export function panelOf(refresh) {
  const panel = element("section", { className: "firered-panel" });
  void refresh(panel);
  return panel;
}

/**
 * @param {HTMLElement} panel
 * @param {...Node} content Takes the place of what the panel shows.
 */
export function fill(panel, ...content) {
  panel.replaceChildren(element("style", { textContent: STYLE }), ...content);
}
