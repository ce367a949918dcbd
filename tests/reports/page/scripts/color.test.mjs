import assert from "node:assert/strict";
import { test } from "node:test";

import {
  cssColor,
  divergingMap,
  gradient,
  paintValues,
  segmentPalette,
  sequentialMap,
  usePalette,
} from "../../../../src/relspace/reports/page/scripts/color.mjs";
import { ramp } from "./ramp.mjs";

const channels = (map) => {
  const bytes = new Uint8Array(map.buffer);
  return Array.from({ length: map.length }, (_, i) => [...bytes.slice(4 * i, 4 * i + 3)]);
};

test("maps are those that the page comes with", () => {
  usePalette({ sequential: ramp(256), diverging: ramp(256, 100), segments: { 2: ramp(2, 7) } });
  assert.deepEqual(channels(sequentialMap())[3], [3, 3, 3]);
  assert.deepEqual(channels(divergingMap())[3], [103, 103, 103]);
  assert.deepEqual(channels(segmentPalette(2)), [[7, 7, 7], [8, 8, 8]]);
  assert.ok(gradient(sequentialMap()).endsWith("rgb(255, 255, 255))"));
});

test("values are painted between the ends and clamped beyond", () => {
  const map = sequentialMap();
  const target = new Uint32Array(4);
  paintValues(Float32Array.of(-5, 0, 1, 7), 0, 1, map, target);
  assert.deepEqual([...target], [map[0], map[0], map[255], map[255]]);
  assert.equal(cssColor(map, 1), `rgb(${channels(map)[255].join(", ")})`);
});
