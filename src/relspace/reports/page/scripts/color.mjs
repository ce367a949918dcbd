// Perceptually even colour maps, made in OKLab (Ottosson 2020).

/** OKLab to sRGB in [0, 255], unclamped. */
function labToRgb([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
  return linear.map((x) => 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
}

/** OKLab to whole sRGB bytes; a colour that no screen shows loses chroma, not hue or lightness. */
export function toBytes([lightness, a, b]) {
  const fits = (share) =>
    labToRgb([lightness, a * share, b * share]).every((x) => x > -0.5 && x < 255.5);
  let low = 0;
  let high = 1;
  if (fits(1)) low = 1;
  else
    for (let i = 0; i < 12; i += 1) {
      const middle = (low + high) / 2;
      if (fits(middle)) low = middle;
      else high = middle;
    }
  return labToRgb([lightness, a * low, b * low]).map((x) =>
    Math.min(255, Math.max(0, Math.round(x))),
  );
}

/** OKLab from lightness, chroma and hue in degrees. */
export function lch(lightness, chroma, hue) {
  const angle = (hue * Math.PI) / 180;
  return [lightness, chroma * Math.cos(angle), chroma * Math.sin(angle)];
}

/** Points on a line through OKLab, `n` of them at equal distances along it. */
export function evenSteps(anchors, n) {
  const fine = [];
  for (let i = 0; i + 1 < anchors.length; i += 1) {
    for (let step = 0; step < 128; step += 1) {
      const share = step / 128;
      fine.push(anchors[i].map((x, axis) => x + share * (anchors[i + 1][axis] - x)));
    }
  }
  fine.push(anchors.at(-1));
  const along = [0];
  for (let i = 1; i < fine.length; i += 1) {
    along.push(along[i - 1] + Math.hypot(...fine[i].map((x, axis) => x - fine[i - 1][axis])));
  }
  const points = [];
  for (let i = 0, at = 0; i < n; i += 1) {
    const wanted = (along.at(-1) * i) / (n - 1);
    while (at < fine.length - 2 && along[at + 1] < wanted) at += 1;
    const share = (wanted - along[at]) / (along[at + 1] - along[at]);
    points.push(fine[at].map((x, axis) => x + share * (fine[at + 1][axis] - x)));
  }
  return points;
}

/** 256 colours as 32-bit pixels, in the byte order of image data. */
function pixels(points) {
  const bytes = new Uint8ClampedArray(points.length * 4);
  points.forEach((point, i) => bytes.set([...toBytes(point), 255], 4 * i));
  return new Uint32Array(bytes.buffer);
}

const NIGHT = lch(0.19, 0.05, 285);
export const SEQUENTIAL_LINE = [
  NIGHT,
  lch(0.34, 0.13, 295),
  lch(0.5, 0.17, 345),
  lch(0.67, 0.17, 35),
  lch(0.83, 0.14, 75),
  lch(0.97, 0.09, 105),
];
export const DIVERGING_LINE = [
  lch(0.85, 0.1, 220),
  lch(0.62, 0.14, 245),
  lch(0.25, 0.02, 270),
  lch(0.65, 0.16, 45),
  lch(0.87, 0.11, 70),
];

/** Dark for nothing in common, light for the same. */
export const sequentialMap = () => pixels(evenSteps(SEQUENTIAL_LINE, 256));

/** Blue below, dark in the middle, orange above. */
export const divergingMap = () => pixels(evenSteps(DIVERGING_LINE, 256));

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

/** Colours of `k` segments: hues all round, lightness by turns, so that neighbours differ twice. */
export function segmentPalette(k) {
  return pixels(
    Array.from({ length: k }, (_, i) => lch(i % 2 ? 0.8 : 0.64, 0.13, 25 + (360 * i) / k)),
  );
}
