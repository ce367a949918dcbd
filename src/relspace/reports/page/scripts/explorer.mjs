// The explorer: state in, pictures out; pointer and keys in, state out.

import { short } from "./charts.mjs";
import { divergingMap, paintValues, sequentialMap } from "./color.mjs";
import { saveCanvas } from "./download.mjs";
import { createFilmstrip } from "./filmstrip.mjs";
import { createHeat } from "./heat.mjs";
import { PIN_COLORS, createInspector, describePatch } from "./inspector.mjs";
import {
  GAP,
  createSources,
  layoutOf,
  outline,
  paintPhotos,
  paintStrip,
  patchSquare,
  patchUnder,
  sizeCanvas,
} from "./panels.mjs";
import { gridRectangle, movePatch } from "./patches.mjs";
import { exampleOf, filterImages, queriesOf, stripsOf, togglePin } from "./store.mjs";

const WHAT_MOVES_THINGS = ["zoom", "images", "allLayers", "layers"];

/** Load a thumbnail, and a grey copy to lie under colours. */
async function loadPhoto(element) {
  await element.decode();
  const { naturalWidth: width, naturalHeight: height } = element;
  const grey = document.createElement("canvas");
  grey.width = width;
  grey.height = height;
  const context = grey.getContext("2d");
  context.filter = "grayscale(1)";
  context.drawImage(element, 0, 0);
  return { element, width, height, grey };
}

/** Start the explorer in its section of the page; the store is returned for what links to it. */
export async function startExplorer(root, report, store, thumbnails) {
  const photos = await Promise.all(thumbnails.map(loadPhoto));
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const scroller = part("panels");
  const sources = createSources();
  const heat = createHeat(report);
  const sequential = sequentialMap();
  const diverging = divergingMap();
  const scratch = new Map();
  const under = document.createElement("canvas");
  let rows = [];
  let scheduled = false;
  let moved = true;
  let movedByKey = false;

  const inspector = createInspector(part("inspector"), report, photos, {
    sequential,
    diverging,
    onPatch: (patch) => store.set({ pins: [patch, null], shown: "A", focus: patch.image }),
    onShown: (shown) => store.set({ shown }),
  });
  const films = report.models.map((model, index) =>
    createFilmstrip(model, (layer) =>
      store.set(({ layers }) => ({ layers: layers.with(index, layer) })),
    ),
  );
  const photoRow = addRow(part("photos"), "Images", "");

  function addRow(parent, title, subtitle) {
    const line = document.createElement("div");
    line.className = "strip";
    const label = document.createElement("div");
    label.className = "label";
    const [strong, small] = [document.createElement("strong"), document.createElement("span")];
    strong.textContent = short(title, 24);
    strong.title = title;
    small.textContent = subtitle;
    label.append(strong, small);
    const canvas = document.createElement("canvas");
    line.append(label, canvas);
    parent.append(line);
    return { line, canvas, small };
  }

  function buildRows(state) {
    const blocks = report.models.map((model, index) => {
      const block = document.createElement("section");
      block.className = "model";
      const heading = document.createElement("h3");
      heading.textContent = model.name;
      const about = document.createElement("span");
      about.textContent = model.description;
      heading.append(about);
      block.append(heading, ...(model.layers.length > 1 ? [films[index].root] : []));
      return block;
    });
    rows = stripsOf(report.models, state).map((strip) => {
      const layer = report.models[strip.model].layers[strip.layer];
      const whole = layer.averaged_from ? `, averaged from ${layer.averaged_from.join(" \u00d7 ")}` : "";
      const grid = `${layer.rows} \u00d7 ${layer.columns} patches${whole}`;
      const row = { strip, layer, ...addRow(blocks[strip.model], layer.name, grid), visible: true };
      row.canvas.addEventListener("pointermove", (event) => onPointer(event, row));
      row.canvas.addEventListener("click", (event) => onClick(event, row));
      return row;
    });
    part("models").replaceChildren(...blocks);
    root.classList.toggle("all-layers", state.allLayers);
  }

  function patchFrom(event, { strip, layer }) {
    const state = store.get();
    return patchUnder(event.offsetX, event.offsetY, strip, layer, layoutOf(photos, state), state.images);
  }

  function onPointer(event, row) {
    if (event.pointerType === "touch") return;
    const patch = patchFrom(event, row);
    movedByKey = false;
    store.set({ pointed: patch, ...(patch && { focus: patch.image }) });
  }

  function onClick(event, row) {
    const patch = patchFrom(event, row);
    if (patch) store.set((state) => ({ ...togglePin(state, patch), focus: patch.image }));
  }

  function onKey(event) {
    const state = store.get();
    const strips = rows.map(({ strip }) => strip);
    if (event.key.startsWith("Arrow") && event.target === scroller) {
      event.preventDefault();
      const { rows: height, columns } = rows[0].layer;
      const start = { ...strips[0], image: state.images[0], row: height >> 1, column: columns >> 1 };
      const pointed = state.pointed
        ? movePatch(state.pointed, event.key, strips, state.images, report.models)
        : start;
      movedByKey = true;
      store.set({ pointed, focus: pointed.image });
    } else if ((event.key === "Enter" || event.key === " ") && event.target === scroller) {
      event.preventDefault();
      if (state.pointed) store.set((now) => togglePin(now, now.pointed));
    } else if (event.key === "Escape") {
      store.set({ pins: [null, null], shown: "A", pointed: null });
    } else if (event.key === "[" || event.key === "]") {
      const model = state.pointed?.model ?? 0;
      const last = report.models[model].layers.length - 1;
      const chosen = state.layers[model] + (event.key === "]" ? 1 : -1);
      store.set({ layers: state.layers.with(model, Math.min(last, Math.max(0, chosen))) });
    }
  }

  function markPatches(context, state, layout, isHere) {
    const example = queriesOf(state).length > 0 ? null : exampleOf(report.models, state);
    const marks = [[example, PIN_COLORS[0], ""], [state.pointed, PIN_COLORS[0], ""], ...state.pins.map((pin, i) => [pin, PIN_COLORS[i], "AB"[i]])];
    for (const [patch, color, letter] of marks) {
      if (patch === null || !isHere(patch) || !state.images.includes(patch.image)) continue;
      const layer = report.models[patch.model].layers[patch.layer];
      outline(context, patchSquare(patch, layer, layout, state.images), color, letter);
    }
  }

  function paintRow(row, state, layout, queries, range, map) {
    const { canvas, layer, strip } = row;
    const colors = (name) => sources.colors(layer, name, state.segmentCount);
    if (queries.length > 0) {
      const source = sources.heat(layer, heat.strip(strip), range, map);
      paintStrip(canvas, layer, layout, under, state, source, null);
    } else {
      const before = state.coloring !== "before" && layer.colors.before ? colors("before") : null;
      paintStrip(canvas, layer, layout, under, state, colors(state.coloring), before);
    }
    const context = canvas.getContext("2d");
    markPatches(context, state, layout, (patch) => patch.model === strip.model && patch.layer === strip.layer);
    row.stale = false;
  }

  function filmSource(model, index, layer, state, queries, range, map) {
    if (queries.length === 0) {
      const source = sources.colors(layer, state.coloring, state.segmentCount);
      return { source, top: state.focus * layer.rows };
    }
    const size = `${layer.columns} x ${layer.rows}`;
    if (!scratch.has(size)) {
      const canvas = document.createElement("canvas");
      canvas.width = layer.columns;
      canvas.height = layer.rows;
      const context = canvas.getContext("2d");
      const image = context.createImageData(layer.columns, layer.rows);
      scratch.set(size, { canvas, context, image, pixels: new Uint32Array(image.data.buffer) });
    }
    const small = scratch.get(size);
    const values = heat.image({ model, layer: index }, state.focus);
    paintValues(values, ...range, map, small.pixels);
    small.context.putImageData(small.image, 0, 0);
    return { source: small.canvas, top: 0 };
  }

  function paint() {
    scheduled = false;
    performance.clearMarks("relspace:paint");
    performance.clearMeasures("relspace:paint");
    performance.mark("relspace:paint");
    const state = store.get();
    if (moved) buildRows(state);
    const layout = layoutOf(photos, state);
    const strips = rows.map(({ strip }) => strip);
    const queries = queriesOf(state);
    const map = queries.length === 2 ? diverging : sequential;
    let range = [0, 1];
    if (queries.length > 0) {
      heat.ask(queries);
      range = heat.range(strips);
    }
    if (moved) {
      for (const row of rows) sizeCanvas(row.canvas, layout.width, layout.panelHeight);
      films.forEach((film, model) => film.mark(state.layers[model]));
      seen.disconnect();
      for (const row of rows) seen.observe(row.canvas);
      paintPhotos(under, layout, state.images, (image) => photos[image].grey);
    }
    const pictures = paintPhotos(photoRow.canvas, layout, state.images, (image) => photos[image].element);
    markPatches(pictures, state, layout, () => true);
    for (const row of rows) {
      if (row.visible) paintRow(row, state, layout, queries, range, map);
      else row.stale = true;
    }
    films.forEach((film, model) => {
      if (state.allLayers) return;
      film.paint(state.focus, photos[state.focus], (layer, index) =>
        filmSource(model, index, layer, state, queries, range, map),
      );
    });
    // Where nothing is pointed at or pinned, an example fills the lists; panels keep their colours.
    const example = queries.length > 0 ? null : exampleOf(report.models, state);
    if (example !== null) heat.ask([example]);
    inspector.show(state, example === null ? queries : [example], heat, range, example);
    showReadout(state);
    if (movedByKey && state.pointed) scrollTo(state, layout);
    moved = false;
    performance.measure("relspace:paint", "relspace:paint");
  }

  function showReadout(state) {
    const { pointed } = state;
    const { title, position } = pointed
      ? describePatch(pointed, report)
      : { title: "", position: "Point at a patch, or use the arrow keys" };
    part("readout").textContent = [title, position].filter(Boolean).join(" · ");
  }

  function scrollTo(state, layout) {
    const square = patchSquare(
      state.pointed,
      report.models[state.pointed.model].layers[state.pointed.layer],
      layout,
      state.images,
    );
    const margin = layout.panelWidth;
    const view = scroller.clientWidth - scroller.querySelector(".label").offsetWidth;
    if (square.x < scroller.scrollLeft + margin) scroller.scrollLeft = square.x - margin;
    if (square.x > scroller.scrollLeft + view - margin) scroller.scrollLeft = square.x - view + margin;
  }

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(paint);
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = rows.find(({ canvas }) => canvas === target);
        if (row) row.visible = isIntersecting;
      }
      if (rows.some((row) => row.visible && row.stale)) schedule();
    },
    { rootMargin: "100px" },
  );

  store.subscribe((state, before) => {
    moved ||= WHAT_MOVES_THINGS.some((key) => state[key] !== before[key]);
    schedule();
  });
  scroller.addEventListener("pointerleave", () => store.set({ pointed: null }));
  scroller.addEventListener("blur", () => store.set({ pointed: null }));
  root.addEventListener("keydown", onKey);
  connectControls(root, report, store);
  store.set({ zoom: fittingZoom(scroller.clientWidth - photoRow.line.firstChild.offsetWidth, photos.length) });
  part("save").addEventListener("click", () => {
    paint();
    saveCanvas(composePanels(), "panels.png");
  });

  /** All strips shown, one below the other with their titles, as one picture. */
  function composePanels() {
    const state = store.get();
    const { width, panelHeight } = layoutOf(photos, state);
    const style = getComputedStyle(document.documentElement);
    const [labelWidth, lineHeight, scale] = [150, panelHeight + 10, 2];
    const canvas = document.createElement("canvas");
    canvas.width = (labelWidth + width + 20) * scale;
    canvas.height = ((rows.length + 1) * lineHeight + 20) * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = style.getPropertyValue("--ground");
    context.fillRect(0, 0, canvas.width, canvas.height);
    [{ ...photoRow, title: "Images", about: "" }, ...rows.map((row) => ({
      ...row,
      title: report.models[row.strip.model].name,
      about: row.layer.name,
    }))].forEach(({ canvas: strip, title, about }, index) => {
      const y = 10 + index * lineHeight;
      context.drawImage(strip, labelWidth, y, width, panelHeight);
      context.fillStyle = style.getPropertyValue("--ink");
      context.font = "600 13px system-ui, sans-serif";
      context.fillText(title, 10, y + panelHeight / 2 - 3, labelWidth - 20);
      context.fillStyle = style.getPropertyValue("--quiet");
      context.font = "12px system-ui, sans-serif";
      context.fillText(about, 10, y + panelHeight / 2 + 14, labelWidth - 20);
    });
    return canvas;
  }

  paint();
}

/** The panels' width with which all images fit, or, of many, some and a half, so that one sees
 * that there are more. */
export function fittingZoom(width, count) {
  const [least, most] = [104, 200];
  const shown = Math.max(1, Math.floor(width / (least + GAP)) - 0.5);
  return Math.round(Math.min(most, Math.max(72, width / Math.min(count, shown) - GAP)));
}

/** Tie the toolbar's inputs to the state. */
function connectControls(root, report, store) {
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  for (const input of root.querySelectorAll('input[name="coloring"]')) {
    input.addEventListener("change", () => store.set({ coloring: input.value }));
  }
  for (const input of root.querySelectorAll('input[name="view"]')) {
    input.addEventListener("change", () => store.set({ allLayers: input.value === "all" }));
  }
  part("wipe")?.addEventListener("input", ({ target }) => store.set({ wipe: Number(target.value) }));
  part("photo").addEventListener("input", ({ target }) => store.set({ photo: Number(target.value) / 100 }));
  part("zoom").addEventListener("input", ({ target }) => store.set({ zoom: Number(target.value) }));
  part("segment-count")?.addEventListener("input", ({ target }) => {
    const counts = Object.keys(report.models[0].layers[0].segments);
    store.set({ segmentCount: Number(counts[target.value]) });
  });
  part("filter").addEventListener("input", ({ target }) => {
    const images = filterImages(report.images, target.value);
    part("filter").setAttribute("aria-invalid", String(images.length === 0));
    if (images.length > 0) {
      store.set(({ focus }) => ({ images, focus: images.includes(focus) ? focus : images[0] }));
    }
  });
  part("unpin").addEventListener("click", () =>
    store.set({ pins: [null, null], shown: "A", pointed: null }),
  );

  const show = (state) => {
    for (const input of root.querySelectorAll('input[name="coloring"]')) {
      input.checked = input.value === state.coloring;
    }
    for (const input of root.querySelectorAll('input[name="view"]')) {
      input.checked = (input.value === "all") === state.allLayers;
    }
    if (part("wipe")) {
      part("wipe").value = state.wipe;
      part("wipe").disabled = state.coloring === "before";
      const frame = part("wipe").parentElement;
      frame.style.setProperty("--share", `${state.wipe}%`);
      frame.style.setProperty("--before-seen", Number(state.wipe > 35));
      frame.style.setProperty("--after-seen", Number(state.wipe < 65));
    }
    part("zoom").value = state.zoom;
    if (part("segment-count")) {
      part("segment-count").disabled = state.coloring !== "segments";
      part("segment-output").textContent = state.segmentCount;
    }
    part("unpin").disabled = state.pins[0] === null;
  };
  store.subscribe(show);
  show(store.get());
}

