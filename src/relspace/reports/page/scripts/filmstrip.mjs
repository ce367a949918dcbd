// The layers of a model as a filmstrip: one image in every layer, the chosen one marked.

import { short } from "./charts.mjs";
import { gridRectangle } from "./patches.mjs";

const FRAME = 46;

/** Build the strip of buttons of one model. */
export function createFilmstrip(model, onChoose) {
  const root = document.createElement("div");
  root.className = "film";
  root.setAttribute("role", "radiogroup");
  root.setAttribute("aria-label", `Layers of ${model.name}`);
  const frames = model.layers.map((layer, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "frame";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", layer.name);
    button.title = layer.name;
    const canvas = document.createElement("canvas");
    const title = document.createElement("span");
    title.textContent = short(layer.name, 10);
    button.append(canvas, title);
    button.addEventListener("click", () => onChoose(index));
    return { button, canvas };
  });
  root.append(...frames.map(({ button }) => button));
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = frames.findIndex(({ button }) => button === document.activeElement);
    const next = frames[at + step];
    if (next === undefined) return;
    event.preventDefault();
    next.button.focus();
    onChoose(at + step);
  });

  return {
    root,
    /** Mark the chosen layer. */
    mark(chosen) {
      frames.forEach(({ button }, index) => {
        button.setAttribute("aria-checked", String(index === chosen));
        button.tabIndex = index === chosen ? 0 : -1;
      });
    },
    /** Paint every frame from the source of its layer. */
    paint(image, photo, sourceOf) {
      model.layers.forEach((layer, index) => {
        const { canvas } = frames[index];
        const grid = gridRectangle({ x: 0, y: 0, width: photo.width, height: photo.height }, layer.boxes?.[image]);
        const width = Math.round(2 * FRAME * Math.min(1, grid.width / grid.height));
        const height = Math.round(2 * FRAME * Math.min(1, grid.height / grid.width));
        if (canvas.width !== width || canvas.height !== height) {
          canvas.width = width;
          canvas.height = height;
        }
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        const { source, top } = sourceOf(layer, index);
        context.drawImage(source, 0, top, layer.columns, layer.rows, 0, 0, width, height);
      });
    },
  };
}
