// What the reader has chosen, and who wants to know when it changes.

import { samePatch } from "./patches.mjs";

/** Hold a state; `set` takes a change or a function of the state and tells all listeners. */
export function createStore(initial) {
  let state = initial;
  const listeners = [];
  return {
    get: () => state,
    set(change) {
      const before = state;
      const changed = typeof change === "function" ? change(state) : change;
      if (Object.entries(changed).every(([key, value]) => before[key] === value)) return;
      state = { ...before, ...changed };
      for (const listener of listeners) listener(state, before);
    },
    subscribe: (listener) => listeners.push(listener),
  };
}

/** The state that the page opens with: every model's last layer, joint colours, nothing pinned. */
export function openingState(report) {
  const first = report.models[0].layers[0];
  const counts = Object.keys(first.segments).map(Number);
  return {
    coloring: Object.keys(first.colors)[0] ?? "segments",
    segmentCount: counts[Math.floor(counts.length / 2)] ?? null,
    wipe: 0,
    photo: 0.3,
    zoom: 112,
    allLayers: false,
    layers: report.models.map((model) => model.layers.length - 1),
    images: report.images.map((_, index) => index),
    focus: 0,
    pointed: null,
    pins: [null, null],
    shown: "A",
  };
}

/** Click on a patch: the first pin, then the second; a pinned patch is let go. */
export function togglePin({ pins }, patch) {
  const held = pins.findIndex((pin) => samePatch(pin, patch));
  if (held === 0) return { pins: [pins[1], null], shown: "A" };
  if (held === 1) return { pins: [pins[0], null], shown: "A" };
  if (pins[0] === null) return { pins: [patch, null], shown: "A" };
  return { pins: [pins[0], patch], shown: "B" };
}

/** The strips of panels shown: the chosen layer of every model, or all layers. */
export function stripsOf(models, { allLayers, layers }) {
  return models.flatMap((model, index) =>
    allLayers
      ? model.layers.map((_, layer) => ({ model: index, layer }))
      : [{ model: index, layer: layers[index] }],
  );
}

/** The patches whose similarity is shown: one, or two for their difference; none for colours. */
export function queriesOf({ pins, shown, pointed }) {
  const [a, b] = pins;
  if (a === null) return pointed === null ? [] : [pointed];
  if (b === null) return [a];
  return { A: [a], B: [b], difference: [a, b] }[shown];
}

/** The patch that stands for any: in the middle of the focused image, in the first model's layer. */
export function exampleOf(models, { layers, focus }) {
  const { rows, columns } = models[0].layers[layers[0]];
  return { model: 0, layer: layers[0], image: focus, row: rows >> 1, column: columns >> 1 };
}

/** The images whose title holds every word of a text. */
export function filterImages(titles, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return titles
    .map((_, index) => index)
    .filter((index) => words.every((word) => titles[index].toLowerCase().includes(word)));
}
