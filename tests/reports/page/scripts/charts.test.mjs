import assert from "node:assert/strict";
import { test } from "node:test";

import {
  bestMatches,
  curves,
  escapeText,
  layerMap,
  legend,
  scatter,
  sharedScale,
  short,
  spread,
  ticks,
} from "../../../../src/relspace/reports/page/scripts/charts.mjs";
import { sequentialMap, usePalette } from "../../../../src/relspace/reports/page/scripts/color.mjs";
import { ramp } from "./ramp.mjs";

usePalette({ sequential: ramp(256), diverging: ramp(256), segments: {} });

const colors = { ground: "#fff", ink: "#000", quiet: "#666", line: "#ddd", series: ["#00f", "#f00"] };
const count = (text, pattern) => text.match(pattern)?.length ?? 0;

test("ticks are round and cover the range", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(-0.1, 0.32), [-0.1, 0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticks(0, 4321), [0, 1000, 2000, 3000, 4000]);
});

test("a table's colours start at chance, and turn round for distances", () => {
  const range = (...tables) => sharedScale(tables).range;
  assert.deepEqual(range({ values: [[0.2, null], [0.4, 0.9]], chance: 0.1, is_distance: false }), [0.1, 0.9]);
  assert.deepEqual(range({ values: [[0.2, 0.4]], chance: 1, is_distance: true }), [0.2, 1]);
  assert.deepEqual(range({ values: [[0.5]], chance: null, is_distance: false }), [0, 1]);
});

test("tables of one scale have one range, and their chance levels once", () => {
  const [before, after] = [[[0.2]], [[0.6, 0.8]]].map((values) => ({ values, chance: 0.1, is_distance: false, scale: "S" }));
  const scale = sharedScale([before, after]);
  assert.deepEqual(scale, { title: "S", range: [0.1, 0.8], chances: [0.1], isDistance: false });
  const text = legend(scale, sequentialMap(), colors);
  assert.match(text, /chance 0.10</);
  assert.match(text, />0.80</);
});

test("a layer map has a cell per pair, says its values, and escapes names", () => {
  const table = {
    title: "T",
    scale: "T",
    row_model: "a<b",
    column_model: "c",
    row_layers: ["x", "y"],
    column_layers: ["1", "2", "3"],
    values: [[0.1, 0.2, 0.3], [0.4, null, 0.6]],
    p_values: [[0.01, 0.01, 0.01], [0.01, null, 0.01]],
    chance: 0.05,
    is_distance: false,
  };
  const scale = sharedScale([table]);
  const text = layerMap(table, scale, sequentialMap(), colors, { chosen: [1, 2] });
  assert.equal(count(text, /class="cell"/g), 6);
  assert.match(text, /aria-label="y and 3: 0.600, p 0.010"/);
  assert.match(text, /aria-label="y and 2: none"/);
  assert.match(text, /a&lt;b/);
  assert.equal(count(text, /stroke-width="2.5"/g), 1);
  assert.equal(count(text, /lighter is more alike/g), 0);
  assert.match(layerMap(table, scale, sequentialMap(), colors, { alone: true }), /lighter is more alike/);
});

test("a curve is broken where it has no value", () => {
  const chart = {
    title: "C",
    y_title: "y",
    labels: ["a", "b", "c", "d"],
    chance: 0.1,
    curves: [{ title: "one", values: [0.1, null, 0.3, 0.4], is_control: false }],
  };
  const text = curves(chart, colors);
  const path = text.match(/<path d="([^"]*)"/)[1];
  assert.equal(count(path, /M/g), 2);
  assert.equal(count(path, /L/g), 1);
  assert.equal(count(text, /<circle/g), 3);
  assert.match(text, />chance</);
});

test("labels move apart and stay within", () => {
  const placed = spread([{ at: 10 }, { at: 11 }, { at: 98 }], 15, 0, 100);
  assert.deepEqual(placed.map(({ at }) => at), [10, 25, 98]);
  assert.deepEqual(spread([{ at: 99 }, { at: 100 }], 15, 0, 100).map(({ at }) => at), [85, 100]);
});

test("a scatter has a point per item and set, and links one", () => {
  const chart = {
    title: "S",
    items: ["p", "q"],
    sets: [
      { name: "a", points: [[0, 0], [1, 1]], colors: [[1, 2, 3], [4, 5, 6]] },
      { name: "b", points: [[0, 1], [1, 0]], colors: [[1, 2, 3], [4, 5, 6]] },
    ],
  };
  assert.equal(count(scatter(chart, colors), /class="item"/g), 4);
  assert.equal(count(scatter(chart, colors, 1), /r="7"/g), 2);
});

test("text means itself", () => {
  assert.equal(escapeText('<a & "b">'), "&lt;a &amp; &quot;b&quot;&gt;");
});

test("long names lose their middle", () => {
  assert.equal(short("encoder.layers.11.output", 11), "encod\u2026utput");
  assert.equal(short("block1", 6), "block1");
});

test("best matches are the largest of rows and columns, the smallest of distances", () => {
  const cells = (table) => bestMatches(table).map(({ row, column, ofRow }) => `${row}${column}${ofRow ? "r" : "c"}`);
  const values = [[0.1, 0.9], [0.4, null]];
  assert.deepEqual(cells({ values, is_distance: false }), ["01r", "10r", "10c", "01c"]);
  assert.deepEqual(cells({ values, is_distance: true }), ["00r", "10r", "00c", "01c"]);
  assert.deepEqual(cells({ values: [[null]], is_distance: false }), []);
});
