import assert from "node:assert/strict";
import { test } from "node:test";

import {
  gridRectangle,
  imageRectangle,
  movePatch,
  patchAt,
  patchOf,
  samePatch,
  tokenOf,
} from "../../../../src/relspace/reports/page/scripts/patches.mjs";

const layer = { rows: 3, columns: 4 };
const models = [
  { layers: [layer, layer] },
  { layers: [{ rows: 6, columns: 8 }] },
];
const strips = [
  { model: 0, layer: 1 },
  { model: 1, layer: 0 },
];
const images = [0, 2, 5];
const at = (model, layerIndex, image, row, column) => ({ model, layer: layerIndex, image, row, column });

test("tokens and patches are inverse", () => {
  for (let token = 0; token < 36; token += 1) {
    assert.equal(tokenOf(layer, patchOf(layer, token, 0, 1)), token);
  }
  assert.deepEqual(patchOf(layer, 12 + 4 + 2, 0, 1), at(0, 1, 1, 1, 2));
});

test("an image keeps its shape in its panel", () => {
  assert.deepEqual(imageRectangle(100, 100, { width: 20, height: 10 }), {
    x: 0,
    y: 25,
    width: 100,
    height: 50,
  });
});

test("points are found on the grid that covers a part of the image", () => {
  const grid = gridRectangle({ x: 10, y: 0, width: 100, height: 80 }, [0, 0.2, 0.5, 1]);
  assert.deepEqual(grid, { x: 30, y: 0, width: 80, height: 40 });
  assert.deepEqual(patchAt(31, 1, grid, layer), { row: 0, column: 0 });
  assert.deepEqual(patchAt(109.9, 39.9, grid, layer), { row: 2, column: 3 });
  assert.equal(patchAt(29, 1, grid, layer), null);
  assert.equal(patchAt(31, 41, grid, layer), null);
});

test("arrows walk over patches, into the next image shown and stop at the last", () => {
  const go = (patch, key) => movePatch(patch, key, strips, images, models);
  assert.deepEqual(go(at(0, 1, 0, 1, 1), "ArrowRight"), at(0, 1, 0, 1, 2));
  assert.deepEqual(go(at(0, 1, 0, 1, 3), "ArrowRight"), at(0, 1, 2, 1, 0));
  assert.deepEqual(go(at(0, 1, 2, 1, 0), "ArrowLeft"), at(0, 1, 0, 1, 3));
  assert.deepEqual(go(at(0, 1, 5, 1, 3), "ArrowRight"), at(0, 1, 5, 1, 3));
});

test("arrows lead into the strip below and back, at the same position on the image", () => {
  const go = (patch, key) => movePatch(patch, key, strips, images, models);
  assert.deepEqual(go(at(0, 1, 2, 2, 1), "ArrowDown"), at(1, 0, 2, 0, 3));
  assert.deepEqual(go(at(1, 0, 2, 0, 3), "ArrowUp"), at(0, 1, 2, 2, 1));
  assert.deepEqual(go(at(1, 0, 2, 5, 3), "ArrowDown"), at(1, 0, 2, 5, 3));
});

test("patches are the same when all of their parts are", () => {
  assert.ok(samePatch(at(0, 1, 2, 3, 4), at(0, 1, 2, 3, 4)));
  assert.ok(!samePatch(at(0, 1, 2, 3, 4), at(0, 0, 2, 3, 4)));
  assert.ok(!samePatch(null, at(0, 1, 2, 3, 4)));
  assert.ok(samePatch(null, null));
});
