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
        "Results: as long as your fal account says; where nothing is set there, at least 7 days " +
          "and maybe without end. Whoever has the address can read them.",
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
  cost: {
    range: (/** @type {string} */ low, /** @type {string} */ high) => `${low} to ${high}`,
    about: (/** @type {string} */ price) => `about ${price}`,
    perEdit: (/** @type {string} */ price, /** @type {number | undefined} */ count) =>
      count === undefined ? `${price} per picture` : `${price} per edit`,
  },
  swap: {
    useFal: "Use fal instead",
    useLocal: "Use the local GPU instead",
    loaderAdded: "A FireRed Load Model was added: choose in it where the model lies.",
    tooManyPictures: (/** @type {number} */ count) =>
      `The local engine takes 3 pictures and ${count} are connected. ` +
      "FireRed Stitch References puts 4 to 12 into three.",
  },
  templates: {
    menu: "Prompt template",
    menuOfOthers: "Prompt template in Chinese",
    linked: "The prompt comes from another node",
    copied: "The template is on the clipboard: paste it there.",
    list: [
      {
        name: "Makeup",
        text:
          "Put makeup on the person: [rose] lipstick, [warm brown] eye shadow, a light blush and " +
          "defined brows. It follows the light of the photo. Keep the face, skin texture, " +
          "expression, hair, clothes and background as they are.",
      },
      {
        name: "Try on (2 pictures)",
        text:
          "Dress the person of @image1 in the [jacket] of @image2. It fits the body and the pose, " +
          "with the cut, fabric, colour and pattern of @image2. Keep the face, hair, hands, pose " +
          "and background of @image1.",
      },
      {
        name: "Restore an old photo",
        text:
          "Restore this old photo: remove scratches, dust, stains and creases, bring back fine " +
          "detail, even out fading. Keep faces, expressions, clothes and framing as they are, and " +
          "[keep it black and white].",
      },
      {
        name: "Change text",
        text:
          'Change the text "[old text]" to "[new text]". Keep its font, size, colour, position ' +
          "and perspective, and everything else in the picture.",
      },
      {
        name: "Relight",
        text:
          "Relight the scene with [low evening sun] from the [left]. Highlights, shadows and " +
          "reflections follow the new light. Keep people, objects and framing as they are.",
      },
      {
        name: "Remove something",
        text:
          "Remove [the people in the background] together with their shadows and reflections. Fill " +
          "the place with what would be seen behind. Keep everything else as it is.",
      },
      {
        name: "Change the background",
        text:
          "Replace the background by [a quiet beach at dusk]. Light and colour on the subject fit " +
          "the new surroundings, and hair keeps its fine edges. Keep the subject's face, pose, " +
          "clothes, size and position.",
      },
      {
        name: "Portrait retouch",
        text:
          "Retouch the portrait: clear [blemishes and dark circles], even out the skin tone, " +
          "soften shine. Keep pores, moles, wrinkles, face shape and expression, and everything " +
          "outside the skin.",
      },
      {
        name: "Change a colour",
        text:
          "Change the colour of [the dress] to [emerald green]. Keep its material, folds, pattern " +
          "and shading, and every other colour in the picture.",
      },
      {
        name: "Change the style",
        text:
          "Redraw the picture as [a watercolour on rough paper]. Keep the composition, the people " +
          "with their poses and expressions, and what lies where.",
      },
    ],
  },
  errors: {
    settings: "Open settings",
    billing: "Open billing at fal",
    node: "Show the node",
    close: "Close",
    times: (/** @type {number} */ count) => `${count} times`,
  },
};
