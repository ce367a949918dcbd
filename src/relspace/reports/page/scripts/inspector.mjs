// Beside the panels: the patches asked about, the scale of the heat map, the nearest patches.

import { gradient } from "./color.mjs";
import { outline } from "./panels.mjs";
import { gridRectangle, patchOf, tokenOf } from "./patches.mjs";
import { nearestTokens, queryWeights, similarity } from "./similarity.mjs";

export const PIN_COLORS = ["#ffffff", "#ffd166"];
const NEAREST = 8;
const CUTOUT = 3.2;
const LEAST_SHARE = 0.3;

/** Correlations with a true minus sign and two decimals. */
export const formatValue = (value) =>
  value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "\u2212");

/** What a patch is called. */
export function describePatch(patch, report) {
  const model = report.models[patch.model];
  return {
    title: `${model.name} · ${model.layers[patch.layer].name}`,
    position: `${report.images[patch.image]}, row ${patch.row}, column ${patch.column}`,
  };
}

/** Draw a patch with what surrounds it. */
export function drawCutout(canvas, patch, report, photos, color = PIN_COLORS[0]) {
  const layer = report.models[patch.model].layers[patch.layer];
  const photo = photos[patch.image];
  const whole = { x: 0, y: 0, width: photo.width, height: photo.height };
  const grid = gridRectangle(whole, layer.boxes?.[patch.image]);
  const width = grid.width / layer.columns;
  const height = grid.height / layer.rows;
  const side = Math.min(
    Math.max(CUTOUT * Math.max(width, height), LEAST_SHARE * Math.min(photo.width, photo.height)),
    photo.width,
    photo.height,
  );
  const inside = (center, length) => Math.min(Math.max(center - side / 2, 0), length - side);
  const left = inside(grid.x + (patch.column + 0.5) * width, photo.width);
  const top = inside(grid.y + (patch.row + 0.5) * height, photo.height);
  const context = canvas.getContext("2d");
  const scale = canvas.width / side;
  context.imageSmoothingEnabled = scale < 4;
  context.drawImage(photo.element, left, top, side, side, 0, 0, canvas.width, canvas.height);
  const square = {
    x: (grid.x + patch.column * width - left) * scale,
    y: (grid.y + patch.row * height - top) * scale,
    width: width * scale,
    height: height * scale,
  };
  outline(context, square, color);
}

function cutoutButton(onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "near";
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 112;
  const value = document.createElement("span");
  button.append(canvas, value);
  button.addEventListener("click", () => onClick(button.patch));
  return button;
}

/** Fill the inspector, whose elements stay where they are whatever they show. */
export function createInspector(root, report, photos, { sequential, diverging, onPatch, onShown }) {
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const lists = report.models.map((model) => {
    const heading = document.createElement("h4");
    const list = document.createElement("div");
    list.className = "nearest";
    const buttons = Array.from({ length: NEAREST }, () => cutoutButton(onPatch));
    list.append(...buttons);
    find("nearest").append(heading, list);
    return { heading, buttons };
  });
  for (const input of find("shown").querySelectorAll("input")) {
    input.addEventListener("change", () => onShown(input.value));
  }

  function showSlot(name, patch, number, isExample = false) {
    const slot = find(name);
    slot.classList.toggle("empty", patch === null);
    const canvas = slot.querySelector("canvas");
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    const { title, position } = patch
      ? describePatch(patch, report)
      : { title: "", position: "Pin another to compare" };
    slot.querySelector(".title").textContent = isExample ? `For example, ${title}` : title;
    slot.querySelector(".position").textContent = position;
    if (patch) drawCutout(canvas, patch, report, photos, PIN_COLORS[number]);
  }

  const correlation = (a, b) => {
    const from = report.models[a.model].layers[a.layer];
    const to = report.models[b.model].layers[b.layer];
    const weights = queryWeights(from.vectors, tokenOf(from, a), report.scales);
    return similarity(weights, to.vectors, tokenOf(to, b));
  };

  return {
    /** Show a state; `example` is the patch asked about where panels show colours, else null. */
    show(state, queries, heat, range, example) {
      const [a, b] = state.pins;
      showSlot("A", a ?? state.pointed ?? example, 0, example !== null);
      showSlot("B", b ?? (a === null ? null : state.pointed), 1);
      const other = b ?? (a === null ? null : state.pointed);
      find("between").textContent =
        a !== null && other !== null ? formatValue(correlation(a, other)) : "\u2013";
      for (const input of find("shown").querySelectorAll("input")) {
        input.disabled = b === null;
        input.checked = input.value === state.shown;
      }
      const difference = queries.length === 2;
      find("scale").style.background = gradient(difference ? diverging : sequential);
      const colored = example !== null;
      find("low").textContent = colored ? "\u2013" : formatValue(range[0]);
      find("high").textContent = colored ? "\u2013" : `${formatValue(range[1])} and more`;
      find("scale-title").textContent = difference ? "similarity to A less that to B" : "similarity";
      root.classList.toggle("idle", colored);
      lists.forEach(({ heading, buttons }, model) => {
        const layerIndex = state.layers[model];
        const layer = report.models[model].layers[layerIndex];
        const wanted = difference ? "Most A, least B" : "Nearest";
        heading.textContent = `${wanted} in ${report.models[model].name} · ${layer.name}`;
        const values = heat.strip({ model, layer: layerIndex });
        const found = nearestTokens(values, layer.rows * layer.columns, NEAREST, queries[0].image);
        buttons.forEach((button, i) => {
          const near = found[i];
          button.disabled = near === undefined;
          const canvas = button.querySelector("canvas");
          if (near === undefined) {
            canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
            button.querySelector("span").textContent = "";
            button.removeAttribute("aria-label");
            return;
          }
          button.patch = patchOf(layer, near.token, model, layerIndex);
          drawCutout(canvas, button.patch, report, photos);
          button.querySelector("span").textContent = formatValue(near.value);
          const { title, position } = describePatch(button.patch, report);
          button.setAttribute("aria-label", `${title}, ${position}: similarity ${near.value.toFixed(2)}`);
          button.title = `${title}, ${position}`;
        });
      });
    },
  };
}
