// Similarity of one patch with many: products of quantised vectors, which approximate correlations.

/** The query's weights: its own bytes times the squared step of each component. */
export function queryWeights(vectors, token, scales) {
  const d = scales.length;
  const weights = new Float32Array(d);
  for (let k = 0; k < d; k += 1) weights[k] = vectors[token * d + k] * scales[k] * scales[k];
  return weights;
}

/** Write the product of the weights with every token's vector into `out`. */
export function similarities(weights, vectors, out) {
  const d = weights.length;
  for (let token = 0, at = 0; token < out.length; token += 1) {
    let sum = 0;
    for (let k = 0; k < d; k += 1, at += 1) sum += weights[k] * vectors[at];
    out[token] = sum;
  }
  return out;
}

/** Similarity of two single patches. */
export function similarity(weights, vectors, token) {
  const d = weights.length;
  return similarities(weights, vectors.subarray(token * d, (token + 1) * d), new Float32Array(1))[0];
}

/**
 * The most similar tokens, the best one of each image, most similar first.
 * Tokens are in image-major order; `skip` is an image to leave out.
 */
export function nearestTokens(values, tokensPerImage, count, skip = -1) {
  const best = [];
  for (let image = 0; image * tokensPerImage < values.length; image += 1) {
    if (image === skip) continue;
    let token = image * tokensPerImage;
    const end = token + tokensPerImage;
    for (let other = token + 1; other < end; other += 1) {
      if (values[other] > values[token]) token = other;
    }
    best.push({ token, value: values[token] });
  }
  return best.sort((a, b) => b.value - a.value).slice(0, count);
}

/** The value below which the given share of all arrays' values lies, to 1/512 of [-1, 1]. */
export function quantile(arrays, share) {
  const counts = new Uint32Array(1024);
  let total = 0;
  for (const values of arrays) {
    total += values.length;
    for (let i = 0; i < values.length; i += 1) {
      const bin = ((values[i] + 1) * 512) | 0;
      counts[bin < 0 ? 0 : bin > 1023 ? 1023 : bin] += 1;
    }
  }
  let seen = 0;
  for (let bin = 0; bin < 1024; bin += 1) {
    seen += counts[bin];
    if (seen >= share * total) return (bin + 1) / 512 - 1;
  }
  return 1;
}
