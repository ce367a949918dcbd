import assert from "node:assert/strict";
import { test } from "node:test";

import {
  nearestTokens,
  quantile,
  queryWeights,
  similarities,
  similarity,
} from "../../../../src/relspace/reports/page/scripts/similarity.mjs";

const scales = Float32Array.of(0.5, 0.25, 1);
const vectors = Int8Array.of(1, 2, 3, -4, 5, -6, 7, -8, 9);

const exact = (a, b) => {
  let sum = 0;
  for (let k = 0; k < 3; k += 1) sum += vectors[3 * a + k] * vectors[3 * b + k] * scales[k] ** 2;
  return sum;
};

test("products weigh every component by its squared step", () => {
  for (let query = 0; query < 3; query += 1) {
    const weights = queryWeights(vectors, query, scales);
    const found = similarities(weights, vectors, new Float32Array(3));
    assert.deepEqual([...found], [exact(query, 0), exact(query, 1), exact(query, 2)]);
    assert.equal(similarity(weights, vectors, 1), exact(query, 1));
  }
});

test("similarity is symmetric", () => {
  const from = (a, b) => similarity(queryWeights(vectors, a, scales), vectors, b);
  assert.equal(from(0, 2), from(2, 0));
});

test("nearest tokens are the best of each image, best first, one image left out", () => {
  const values = Float32Array.of(0.1, 0.9, 0.3, 0.2, 0.8, 0.7);
  assert.deepEqual(
    nearestTokens(values, 2, 5).map(({ token }) => token),
    [1, 4, 2],
  );
  assert.deepEqual(
    nearestTokens(values, 2, 1, 0).map(({ token }) => token),
    [4],
  );
});

test("a quantile over several arrays is that of all their values", () => {
  const low = Float32Array.from({ length: 900 }, (_, i) => i / 1000);
  const high = Float32Array.from({ length: 100 }, (_, i) => 0.9 + i / 1000);
  assert.ok(Math.abs(quantile([low, high], 0.95) - 0.95) < 0.004);
  assert.ok(Math.abs(quantile([Float32Array.of(-1, -1, 1.5)], 1) - 1) < 0.004);
});
