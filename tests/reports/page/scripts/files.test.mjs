import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { unpack } from "../../../../src/relspace/reports/page/scripts/decode.mjs";
import { csvField, fileName, toCsv } from "../../../../src/relspace/reports/page/scripts/download.mjs";
import { chosenCell, layersOfCell } from "../../../../src/relspace/reports/page/scripts/figures.mjs";
import { holdsWords } from "../../../../src/relspace/reports/page/scripts/tables.mjs";

test("packed arrays come back", async () => {
  const bytes = Int8Array.of(-128, -1, 0, 1, 127, 5);
  const packed = {
    type: "int8",
    shape: [2, 3],
    gzip: gzipSync(Buffer.from(bytes.buffer)).toString("base64"),
  };
  const { values, shape } = await unpack(packed);
  assert.deepEqual([...values], [...bytes]);
  assert.deepEqual(shape, [2, 3]);
});

test("fields are quoted where they have to be", () => {
  assert.equal(csvField("plain"), "plain");
  assert.equal(csvField('say "so", twice'), '"say ""so"", twice"');
  assert.equal(toCsv([["a", "b"], ["1", "x\ny"]]), 'a,b\r\n1,"x\ny"\r\n');
});

test("files are named after what they hold", () => {
  assert.equal(fileName("CKA, debiased: a by <b>", "csv"), "cka-debiased-a-by-b.csv");
  assert.equal(fileName("\u00e9\u00e9", "png"), "relspace.png");
});

test("cells and panels are linked by the names of models and layers", () => {
  const models = [
    { name: "a", layers: [{ name: "x" }, { name: "y" }] },
    { name: "b", layers: [{ name: "z" }] },
  ];
  const table = { row_model: "a", column_model: "b", row_layers: ["y", "x"], column_layers: ["z", "w"] };
  assert.deepEqual(chosenCell(table, models, [1, 0]), [0, 0]);
  assert.deepEqual(layersOfCell(table, models, [1, 0], [1, 0]), [0, 0]);
  assert.equal(layersOfCell(table, models, [1, 0], [1, 1]), null);
  assert.equal(chosenCell({ ...table, row_model: "c" }, models, [1, 0]), null);
});

test("a filter looks for every word, in any order", () => {
  assert.ok(holdsWords("Layer 3 of the CNN", ["cnn", "3"]));
  assert.ok(!holdsWords("Layer 3 of the CNN", ["cnn", "4"]));
});
