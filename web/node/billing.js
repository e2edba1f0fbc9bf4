/**
 * Which size fal bills, and what that costs: pipeline/geometry.py and pipeline/fal/pricing.py once
 * more, for a page that has no Python. tests/browser/test_cost_badge.py holds both against them.
 */

/**
 * @typedef {object} Size
 * @property {number} width
 * @property {number} height
 */

export const PRICE_PER_MEGAPIXEL = 0.0325;

export const MEGAPIXEL = 1024 * 1024;

const CELL = 16;
const LARGEST = 16 * MEGAPIXEL;
const NEAR = 1 / 8;
const PIXELS_PER_BILLED_MEGAPIXEL = 1_000_000;

/** @type {Record<string, Size>} */
export const PRESETS = {
  square_hd: { width: 1024, height: 1024 },
  square: { width: 512, height: 512 },
  portrait_4_3: { width: 768, height: 1024 },
  portrait_16_9: { width: 576, height: 1024 },
  landscape_4_3: { width: 1024, height: 768 },
  landscape_16_9: { width: 1024, height: 576 },
};

/** @param {Size} size */
export function areaOf(size) {
  return size.width * size.height;
}

/**
 * The size an edit runs at, which is the one that is billed.
 *
 * @param {Size} output
 * @param {number} workingMegapixels 0 is the output's own.
 * @returns {Size}
 */
export function canvasOf(output, workingMegapixels) {
  const scale = scaleToArea(areaOf(output), workingMegapixels * MEGAPIXEL || areaOf(output));
  return { width: cells(output.width * scale), height: cells(output.height * scale) };
}

/**
 * The result's size for `megapixels`, in the aspect of `first`.
 *
 * @param {Size} first
 * @param {number} megapixels
 * @returns {Size}
 */
export function wholeCells(first, megapixels) {
  const [short, long] = [first.width, first.height].sort((a, b) => a - b);
  const wanted = (long * Math.sqrt((megapixels * MEGAPIXEL) / areaOf(first))) / CELL;
  const scale = (CELL * narrowestStrip(short, long, wanted)) / long;
  return { width: cells(first.width * scale), height: cells(first.height * scale) };
}

/**
 * @param {number} pixels
 * @param {number} count
 * @returns {{exact: number, roundedUp: number}} US dollars; fal does not say which it bills.
 */
export function estimate(pixels, count) {
  const megapixels = pixels / PIXELS_PER_BILLED_MEGAPIXEL;
  const price = PRICE_PER_MEGAPIXEL * count;
  return { exact: megapixels * price, roundedUp: Math.ceil(megapixels) * price };
}

/**
 * @param {number} short
 * @param {number} long
 * @param {number} wanted Cells along the long side.
 * @returns {number} Within 4 percent of that, the cells that need the least padding.
 */
function narrowestStrip(short, long, wanted) {
  const from = Math.ceil(wanted * 0.96);
  const to = Math.floor(wanted * 1.04) + 1;
  /** @type {[cells: number, strip: number, distance: number] | undefined} */
  let best;
  for (let count = from; count < to; count += 1) {
    const exact = (short * count) / long;
    const strip = (Math.ceil(exact - 1e-6) - exact) / count;
    const distance = Math.abs(count - wanted);
    if (!best || strip < best[1] || (strip === best[1] && distance < best[2])) {
      best = [count, strip, distance];
    }
  }
  return best ? best[0] : from;
}

/**
 * @param {number} own
 * @param {number} wanted
 */
function scaleToArea(own, wanted) {
  const near = own <= LARGEST && Math.abs(own / wanted - 1) <= NEAR;
  return near ? 1 : Math.sqrt(wanted / own);
}

/** @param {number} length */
function cells(length) {
  return CELL * Math.max(1, Math.ceil(length / CELL - 1e-6));
}
