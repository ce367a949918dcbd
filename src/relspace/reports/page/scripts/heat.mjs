// The heat maps of the moment: similarities of every strip shown with the patches asked about.

import { tokenOf } from "./patches.mjs";
import { quantile, queryWeights, similarities } from "./similarity.mjs";

const BRIGHTEST = 0.998;
const LEAST_RANGE = 0.1;

/** Compute on demand, into buffers that are used again: `ask` first, then `strip` or `image`. */
export function createHeat(report) {
  const buffers = new Map();
  let weights = [];
  let done = new Set();

  const layerOf = ({ model, layer }) => report.models[model].layers[layer];

  function combine(vectors, out, spare) {
    similarities(weights[0], vectors, out);
    if (weights.length === 1) return out;
    similarities(weights[1], vectors, spare);
    for (let i = 0; i < out.length; i += 1) out[i] -= spare[i];
    return out;
  }

  return {
    /** Set the patches asked about: one, or two for the difference of their similarities. */
    ask(queries) {
      weights = queries.map((patch) => {
        const layer = layerOf(patch);
        return queryWeights(layer.vectors, tokenOf(layer, patch), report.scales);
      });
      done = new Set();
    },

    /** Similarities of all tokens of a strip. */
    strip(strip) {
      const layer = layerOf(strip);
      if (!buffers.has(layer)) {
        const n = layer.vectors.length / report.scales.length;
        buffers.set(layer, { values: new Float32Array(n), spare: new Float32Array(n) });
      }
      const { values, spare } = buffers.get(layer);
      if (!done.has(layer)) combine(layer.vectors, values, spare);
      done.add(layer);
      return values;
    },

    /** Similarities of the tokens of one image. */
    image(strip, image) {
      const layer = layerOf(strip);
      const n = layer.rows * layer.columns;
      if (done.has(layer)) return buffers.get(layer).values.subarray(image * n, (image + 1) * n);
      const d = report.scales.length;
      const vectors = layer.vectors.subarray(image * n * d, (image + 1) * n * d);
      return combine(vectors, new Float32Array(n), new Float32Array(n));
    },

    /** The values of the darkest and of the lightest colour. */
    range(strips) {
      const values = strips.map((strip) => this.strip(strip));
      const high = Math.max(LEAST_RANGE, quantile(values, BRIGHTEST));
      if (weights.length === 1) return [0, high];
      const reach = Math.max(high, -quantile(values, 1 - BRIGHTEST));
      return [-reach, reach];
    },
  };
}
