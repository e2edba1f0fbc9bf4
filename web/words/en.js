/** One group for each part of the page; a sentence with a value in it is a function. */
export const english = {
  jobs: {
    columns: ["Prompt", "Seed", "State", "Cost", "Ordered", ""],
    states: {
      uncertain: "answer lost: fal may have it",
      queued: "at fal",
      cancelling: "cancelled, may finish all the same",
      result: "finished, being fetched",
      done: "ready",
    },
    unknownCost: "unknown",
    spentToday: (/** @type {string} */ dollars) => `Spent today: ${dollars}`,
    none: "No edit waits to be collected.",
    refresh: "Refresh",
    collect: "Collect",
    saved: "Saved in the output folder",
    giveUp: "Give up",
    giveUpTitle: "Give up this edit?",
    giveUpReady:
      "It is paid. Its pictures are not offered here any more; the same edit, run again with the " +
      "same seed, still comes from disk until they are cleared.",
    giveUpUnfinished:
      "It is not offered here any more, whatever becomes of it. fal is not told to stop: it may " +
      "still finish this edit and bill it.",
    waiting: (/** @type {number} */ count) =>
      count === 1
        ? "1 edit on fal is paid and waits to be collected: Settings > FireRed > fal"
        : `${count} edits on fal are paid and wait to be collected: Settings > FireRed > fal`,
  },
  key: {
    label: "fal key",
    source: {
      environment: "The key is from the environment of ComfyUI, which comes before any other.",
      file: "A key is saved on this computer.",
      none: "There is no key yet. Create one at",
    },
    placeholder: "Paste a key; it is not shown again",
    fixed: "Change FAL_KEY in the environment and restart ComfyUI",
    remote:
      "From here the key cannot be set, tested or removed: that takes a page opened at localhost " +
      "on the computer that runs ComfyUI, with ComfyUI reachable from there alone. On a remote " +
      "ComfyUI set FAL_KEY in its environment and restart it.",
    save: "Save",
    saved: "Saved. The next edit uses this key.",
    test: "Test key",
    outcome: {
      works: "The key works.",
      refused: "fal refuses the key.",
      unreachable: "fal cannot be reached, so the key was not tested.",
    },
    remove: "Remove",
    removed: "Removed.",
    confirmTitle: "Remove the fal key?",
    confirmRemoval:
      "Its file on this computer is deleted. At fal the key stays valid until you revoke it there.",
    stored: {
      summary: "What fal stores, and for how long",
      items: [
        "Prompts, answers, and pictures small enough to travel inside the request: 30 days, in " +
          "the request history of your account.",
        "Larger reference pictures: as long as the setting below says. Whoever has the address " +
          "can read them.",
        "Results: as long as your fal account says, which is without end where nothing is set " +
          "there. Whoever has the address can read them.",
        "Results with sync_mode on: they come inside the answer and are not kept.",
      ],
    },
  },
  cache: {
    delivered: (/** @type {number} */ count, /** @type {string} */ size) =>
      `Delivered: ${count} ${count === 1 ? "picture" : "pictures"}, ${size}.`,
    waiting: (/** @type {number} */ count, /** @type {string} */ size) =>
      `Waiting to be collected: ${count} ${count === 1 ? "picture" : "pictures"}, ${size}.`,
    records: (/** @type {number} */ count, /** @type {string} */ size) =>
      `Journal: ${size}, with ${count} ${count === 1 ? "upload" : "uploads"} remembered.`,
    memory:
      "What the local nodes remember is in memory only: ComfyUI's button that unloads models and " +
      "frees memory forgets it.",
    refresh: "Refresh",
    clear: "Clear",
    confirmTitle: "Delete the delivered pictures?",
    confirm:
      "The copies kept for repeated edits are deleted; what you saved yourself stays, and so does " +
      "what waits to be collected. One of these edits, run again, is sent to fal and billed anew.",
  },
};
