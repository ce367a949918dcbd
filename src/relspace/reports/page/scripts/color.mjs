// Colours of values and segments: maps that come with the page, even in OKLab.

const maps = { sequential: null, diverging: null, segments: {} };

/** Bytes of sRGB in base64 as 32-bit pixels, in the byte order of image data. */
function pixels(base64) {
  const rgb = Uint8Array.from(atob(base64), (mark) => mark.charCodeAt(0));
  const bytes = new Uint8ClampedArray((rgb.length / 3) * 4).fill(255);
  for (let i = 0; 3 * i < rgb.length; i += 1) bytes.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  return new Uint32Array(bytes.buffer);
}

/** Take the page's maps. */
export function usePalette({ sequential, diverging, segments }) {
  maps.sequential = pixels(sequential);
  maps.diverging = pixels(diverging);
  maps.segments = Object.fromEntries(Object.entries(segments).map(([k, colors]) => [k, pixels(colors)]));
}

/** Dark for nothing in common, light for the same. */
export const sequentialMap = () => maps.sequential;

/** Blue below, dark in the middle, orange above. */
export const divergingMap = () => maps.diverging;

/** Colours of `k` segments. */
export const segmentPalette = (k) => maps.segments[k];

/** A CSS gradient of a map, for its legend. */
export function gradient(map) {
  const stops = [];
  for (let i = 0; i < 256; i += 15) stops.push(cssColor(map, i / 255));
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/** The CSS colour of a value in [0, 1]. */
export function cssColor(map, value) {
  const bytes = new Uint8Array(map.buffer);
  const at = 4 * Math.round(255 * Math.min(1, Math.max(0, value)));
  return `rgb(${bytes[at]}, ${bytes[at + 1]}, ${bytes[at + 2]})`;
}

/** Write values between `low` and `high` as pixels of a map. */
export function paintValues(values, low, high, map, target) {
  const scale = 255 / Math.max(high - low, 1e-6);
  for (let i = 0; i < values.length; i += 1) {
    const at = ((values[i] - low) * scale) | 0;
    target[i] = map[at < 0 ? 0 : at > 255 ? 255 : at];
  }
}
