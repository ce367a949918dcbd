// Figures on the page: drawn from data, drawn anew when colours or choices change, savable.

import { curves, layerMap, legend, scatter, sharedScale } from "./charts.mjs";
import { sequentialMap } from "./color.mjs";
import { fileName, save, saveSvgAsPng } from "./download.mjs";
import { figureColors } from "./theme.mjs";

/** Connect a figure's frame; `draw` gives its SVG text, `drawAlone` that of a file of its own. Returns what draws it again. */
function connectFigure(frame, title, draw, drawAlone = draw) {
  const drawing = frame.querySelector(".drawing");
  const redraw = () => {
    const focused = drawing.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
    drawing.innerHTML = draw();
    if (focused?.row) {
      drawing.querySelector(`[data-row="${focused.row}"][data-column="${focused.column}"]`)?.focus();
    }
  };
  frame.querySelector("[data-part=svg]").addEventListener("click", () =>
    save(drawAlone(), "image/svg+xml", fileName(title, "svg")),
  );
  frame.querySelector("[data-part=png]").addEventListener("click", () =>
    saveSvgAsPng(drawAlone(), figureColors().ground, fileName(title, "png")),
  );
  return redraw;
}

/** The row and the column of the layers shown in the panels in a layer x layer table, or null. */
export function chosenCell(table, models, layers) {
  const numberOf = (name, names) => {
    const model = models.findIndex((one) => one.name === name);
    return model < 0 ? -1 : names.indexOf(models[model].layers[layers[model]].name);
  };
  const cell = [numberOf(table.row_model, table.row_layers), numberOf(table.column_model, table.column_layers)];
  return cell.includes(-1) ? null : cell;
}

/** The layers that a cell asks to see side by side, or null where the panels don't have them. */
export function layersOfCell(table, models, layers, [row, column]) {
  const find = (name, layer) => {
    const model = models.findIndex((one) => one.name === name);
    return [model, model < 0 ? -1 : models[model].layers.findIndex((one) => one.name === layer)];
  };
  const [first, second] = [
    find(table.row_model, table.row_layers[row]),
    find(table.column_model, table.column_layers[column]),
  ];
  if (first[1] < 0 || second[1] < 0) return null;
  return layers.with(first[0], first[1]).with(second[0], second[1]);
}

function connectLayerMap(frame, table, report, store) {
  const map = sequentialMap();
  const models = report.models;
  const choose = (cell) => {
    const layers = store && layersOfCell(table, models, store.get().layers, cell);
    if (layers) store.set({ layers, allLayers: false });
  };
  const scale = sharedScale(report.layer_tables.filter((one) => one.scale === table.scale));
  const redraw = connectFigure(
    frame,
    table.title,
    () => {
      const chosen = store && chosenCell(table, models, store.get().layers);
      return layerMap(table, scale, map, figureColors(), { chosen });
    },
    () => layerMap(table, scale, map, figureColors(), { alone: true }),
  );
  const cellOf = (event) => {
    const cell = event.target.closest(".cell");
    return cell && [Number(cell.dataset.row), Number(cell.dataset.column)];
  };
  frame.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell) choose(cell);
  });
  frame.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    const [down, across] =
      { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") choose(cell);
    else if (down === 0 && across === 0) return;
    event.preventDefault();
    frame.querySelector(`[data-row="${cell[0] + down}"][data-column="${cell[1] + across}"]`)?.focus();
  });
  store?.subscribe((state, before) => {
    if (state.layers !== before.layers) redraw();
  });
  return redraw;
}

function connectScatter(frame, chart) {
  let linked = null;
  const redraw = connectFigure(frame, chart.title, () => scatter(chart, figureColors(), linked));
  const link = (item) => {
    if (item === linked) return;
    linked = item;
    redraw();
    frame.querySelector("[data-part=item]").textContent =
      item === null ? "Point at an item to see where it lies in every set" : chart.items[item];
    const picture = frame.querySelector("[data-part=item-image]");
    if (picture === null) return;
    picture.hidden = item === null;
    if (item !== null) picture.src = document.querySelectorAll("#thumbnails img")[item].src;
  };
  frame.querySelector(".drawing").addEventListener("pointerover", (event) => {
    const item = event.target.closest(".item");
    if (item) link(Number(item.dataset.item));
  });
  frame.querySelector(".drawing").addEventListener("pointerleave", () => link(null));
  frame.querySelector("[data-part=find-item]").addEventListener("input", ({ target }) => {
    const wanted = target.value.trim().toLowerCase();
    const found = chart.items.findIndex((item) => item.toLowerCase().includes(wanted));
    link(wanted === "" || found < 0 ? null : found);
  });
  return redraw;
}

function connectLegend(element, report) {
  const map = sequentialMap();
  const scale = sharedScale(report.layer_tables.filter((one) => one.scale === element.dataset.legend));
  return () => {
    element.innerHTML = legend(scale, map, figureColors());
  };
}

/** Connect every figure of the page; returns what draws all of them again. */
export function connectFigures(root, report, store) {
  const redraws = [...root.querySelectorAll("[data-figure]")].map((frame) => {
    const { figure, index } = frame.dataset;
    if (figure === "layer-table") return connectLayerMap(frame, report.layer_tables[index], report, store);
    if (figure === "scatter") return connectScatter(frame, report.scatters[index]);
    const chart = report.charts[index];
    return connectFigure(frame, chart.title, () => curves(chart, figureColors()));
  });
  const legends = [...root.querySelectorAll("[data-legend]")].map((element) => connectLegend(element, report));
  return () => [...redraws, ...legends].forEach((redraw) => redraw());
}
