/** Pieces of a page. What they show is text: nothing here parses HTML. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** @param {string} textContent */
export function sentence(textContent) {
  return element("p", { textContent });
}

/**
 * @param {unknown} error What was thrown.
 * @returns {HTMLElement} Its words, read out at once by a screen reader.
 */
export function failure(error) {
  const textContent = error instanceof Error ? error.message : String(error);
  return element("p", { className: "error", textContent, role: "alert" });
}

/**
 * @param {string} href An address outside of ComfyUI.
 * @param {string} textContent
 */
export function outsideLink(href, textContent) {
  return element("a", { href, textContent, target: "_blank", rel: "noopener noreferrer" });
}

/** @returns {Promise<unknown>} Until the page draws itself anew. */
export function nextPicture() {
  return new Promise(requestAnimationFrame);
}

/**
 * A button that cannot be pressed again before its work is done.
 *
 * @param {string} textContent
 * @param {() => unknown} work
 */
export function button(textContent, work) {
  const made = element("button", { type: "button", textContent });
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await work();
    } finally {
      made.disabled = false;
    }
  });
  return made;
}
