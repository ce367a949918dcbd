import assert from "node:assert/strict";
import { test } from "node:test";

import {
  createStore,
  filterImages,
  exampleOf,
  openingState,
  queriesOf,
  stripsOf,
  togglePin,
} from "../../../../src/relspace/reports/page/scripts/store.mjs";

const patch = (column) => ({ model: 0, layer: 0, image: 0, row: 0, column });

test("listeners hear of changes, and of changes alone", () => {
  const store = createStore({ a: 1, b: 2 });
  const heard = [];
  store.subscribe((state, before) => heard.push([before.a, state.a]));
  store.set({ a: 1 });
  store.set({ a: 3 });
  store.set(({ a }) => ({ a: a + 1 }));
  assert.deepEqual(heard, [[1, 3], [3, 4]]);
  assert.deepEqual(store.get(), { a: 4, b: 2 });
});

test("pins: the first, the second, the second again, and letting go", () => {
  let state = { pins: [null, null], shown: "A" };
  const click = (column) => (state = { ...state, ...togglePin(state, patch(column)) });
  click(1);
  assert.deepEqual(state, { pins: [patch(1), null], shown: "A" });
  click(2);
  assert.deepEqual(state, { pins: [patch(1), patch(2)], shown: "B" });
  click(3);
  assert.deepEqual(state.pins, [patch(1), patch(3)]);
  click(1);
  assert.deepEqual(state, { pins: [patch(3), null], shown: "A" });
  click(3);
  assert.deepEqual(state.pins, [null, null]);
});

test("what is asked: the pointer, unless something is pinned", () => {
  const [a, b, c] = [patch(1), patch(2), patch(3)];
  assert.deepEqual(queriesOf({ pins: [null, null], shown: "A", pointed: null }), []);
  assert.deepEqual(queriesOf({ pins: [null, null], shown: "A", pointed: c }), [c]);
  assert.deepEqual(queriesOf({ pins: [a, null], shown: "A", pointed: c }), [a]);
  assert.deepEqual(queriesOf({ pins: [a, b], shown: "B", pointed: c }), [b]);
  assert.deepEqual(queriesOf({ pins: [a, b], shown: "difference", pointed: c }), [a, b]);
});

test("strips are the chosen layers, or all of them", () => {
  const models = [{ layers: [0, 1] }, { layers: [0, 1, 2] }];
  assert.deepEqual(stripsOf(models, { allLayers: false, layers: [1, 0] }), [
    { model: 0, layer: 1 },
    { model: 1, layer: 0 },
  ]);
  assert.equal(stripsOf(models, { allLayers: true, layers: [1, 0] }).length, 5);
});

test("a filter finds titles that hold every word", () => {
  const titles = ["Red cat", "red dog", "Blue cat"];
  assert.deepEqual(filterImages(titles, "RED"), [0, 1]);
  assert.deepEqual(filterImages(titles, " cat  red "), [0]);
  assert.deepEqual(filterImages(titles, ""), [0, 1, 2]);
  assert.deepEqual(filterImages(titles, "bird"), []);
});

test("the page opens with last layers, joint colours and nothing pinned", () => {
  const layer = { colors: { joint: {}, before: {} }, segments: { 2: {}, 4: {}, 8: {} } };
  const state = openingState({ models: [{ layers: [layer, layer] }, { layers: [layer] }], images: ["a", "b"] });
  assert.deepEqual(state.layers, [1, 0]);
  assert.equal(state.coloring, "joint");
  assert.equal(state.segmentCount, 4);
  assert.deepEqual(state.images, [0, 1]);
});

test("the example lies in the middle of the image looked at, in the layer chosen", () => {
  const models = [{ layers: [{ rows: 3, columns: 5 }, { rows: 8, columns: 4 }] }];
  assert.deepEqual(exampleOf(models, { layers: [1], focus: 2 }), { model: 0, layer: 1, image: 2, row: 4, column: 2 });
});
