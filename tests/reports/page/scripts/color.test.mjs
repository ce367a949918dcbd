import assert from "node:assert/strict";
import { test } from "node:test";

import {
  DIVERGING_LINE,
  SEQUENTIAL_LINE,
  cssColor,
  divergingMap,
  evenSteps,
  lch,
  paintValues,
  segmentPalette,
  sequentialMap,
  toBytes,
} from "../../../../src/relspace/reports/page/scripts/color.mjs";

const channels = (map) => {
  const bytes = new Uint8Array(map.buffer);
  return Array.from({ length: map.length }, (_, i) => [...bytes.slice(4 * i, 4 * i + 3)]);
};

/** sRGB bytes to OKLab (Ottosson 2020), the other way round than the module goes. */
function toLab(rgb) {
  const [r, g, b] = rgb.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

test("known colours come out", () => {
  assert.deepEqual(toBytes([1, 0, 0]), [255, 255, 255]);
  assert.deepEqual(toBytes([0, 0, 0]), [0, 0, 0]);
  assert.deepEqual(toBytes([0.627955, 0.224863, 0.125846]), [255, 0, 0]);
});

test("a colour out of gamut keeps its lightness and hue", () => {
  const lab = toLab(toBytes(lch(0.7, 0.4, 150)));
  assert.ok(Math.abs(lab[0] - 0.7) < 0.01);
  assert.ok(Math.abs((Math.atan2(lab[2], lab[1]) * 180) / Math.PI - 150) < 2);
});

test("the sequential map rises in lightness all the way, in steps that look alike", () => {
  const labs = channels(sequentialMap()).map(toLab);
  for (let i = 4; i < labs.length; i += 4) assert.ok(labs[i][0] > labs[i - 4][0]);
  const steps = [];
  for (let i = 8; i < labs.length; i += 8) steps.push(Math.hypot(...labs[i].map((x, k) => x - labs[i - 8][k])));
  const mean = steps.reduce((a, b) => a + b) / steps.length;
  for (const step of steps) assert.ok(Math.abs(step / mean - 1) < 0.25, `${step} next to ${mean}`);
});

test("the diverging map is darkest in its middle and as light at both ends", () => {
  const lightness = channels(divergingMap()).map((rgb) => toLab(rgb)[0]);
  const darkest = lightness.indexOf(Math.min(...lightness));
  assert.ok(Math.abs(darkest - 128) < 20, `darkest at ${darkest}`);
  assert.ok(Math.abs(lightness[0] - lightness[255]) < 0.05);
});

test("steps along a line are equally long and end where it ends", () => {
  for (const line of [SEQUENTIAL_LINE, DIVERGING_LINE]) {
    const points = evenSteps(line, 50);
    assert.ok(Math.hypot(...points[49].map((x, i) => x - line.at(-1)[i])) < 1e-9);
    const lengths = points.slice(1).map((p, i) => Math.hypot(...p.map((x, k) => x - points[i][k])));
    // A step over a bend of the line cuts its corner; all others are equal.
    const sorted = lengths.sort((a, b) => a - b);
    assert.ok(sorted.at(-1) / sorted[5] < 1.05);
  }
});

test("values are painted between the ends and clamped beyond", () => {
  const map = sequentialMap();
  const target = new Uint32Array(4);
  paintValues(Float32Array.of(-5, 0, 1, 7), 0, 1, map, target);
  assert.deepEqual([...target], [map[0], map[0], map[255], map[255]]);
  assert.equal(cssColor(map, 1), `rgb(${channels(map)[255].join(", ")})`);
});

test("segments have colours of their own", () => {
  for (const k of [2, 8, 16]) assert.equal(new Set(segmentPalette(k)).size, k);
});
