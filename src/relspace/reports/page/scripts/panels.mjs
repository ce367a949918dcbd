// The panels: one canvas per strip, images across, colours or heat maps on them.

import { paintValues, segmentPalette } from "./color.mjs";
import { gridRectangle, imageRectangle, patchAt } from "./patches.mjs";

export const GAP = 6;

/** A canvas of one pixel per patch, images one below the other: the tokens' own order. */
function tokenCanvas(layer) {
  const canvas = document.createElement("canvas");
  canvas.width = layer.columns;
  canvas.height = layer.rows * layer.nImages;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
}

/** Sources of pixels: every colouring once, and one heat map per layer. */
export function createSources() {
  const colored = new Map();
  const heated = new Map();

  function paintColors(layer, coloring, k, { image, pixels }) {
    if (coloring === "segments") {
      const palette = segmentPalette(k);
      layer.segments[k].forEach((segment, token) => (pixels[token] = palette[segment]));
    } else if (layer.colors[coloring]) {
      const rgb = layer.colors[coloring];
      for (let token = 0; token < pixels.length; token += 1) {
        image.data.set([rgb[3 * token], rgb[3 * token + 1], rgb[3 * token + 2], 255], 4 * token);
      }
    }
  }

  return {
    colors(layer, coloring, k) {
      const key = coloring === "segments" ? `segments ${k}` : coloring;
      if (!colored.has(layer)) colored.set(layer, new Map());
      const own = colored.get(layer);
      if (!own.has(key)) {
        const target = tokenCanvas(layer);
        paintColors(layer, coloring, k, target);
        target.context.putImageData(target.image, 0, 0);
        own.set(key, target.canvas);
      }
      return own.get(key);
    },
    heat(layer, values, [low, high], map) {
      if (!heated.has(layer)) heated.set(layer, tokenCanvas(layer));
      const target = heated.get(layer);
      paintValues(values, low, high, map, target.pixels);
      target.context.putImageData(target.image, 0, 0);
      return target.canvas;
    },
  };
}

/** Where everything lies: sizes in CSS pixels. */
export function layoutOf(photos, { zoom, images }) {
  const tallest = Math.max(...photos.map((photo) => photo.height / photo.width));
  const height = Math.round(zoom * Math.min(tallest, 1.6));
  return {
    panelWidth: zoom,
    panelHeight: height,
    width: Math.max(1, images.length * (zoom + GAP) - GAP),
    left: (position) => position * (zoom + GAP),
    rectangle: (image) => imageRectangle(zoom, height, photos[image]),
  };
}

/** The patch of a strip under a point of its canvas, or null. */
export function patchUnder(x, y, strip, layer, layout, images) {
  const position = Math.floor(x / (layout.panelWidth + GAP));
  const image = images[position];
  if (image === undefined) return null;
  const grid = gridRectangle(layout.rectangle(image), layer.boxes?.[image]);
  const found = patchAt(x - layout.left(position), y, grid, layer);
  return found && { ...strip, image, ...found };
}

/** The square of a patch within the canvas of its strip. */
export function patchSquare(patch, layer, layout, images) {
  const grid = gridRectangle(layout.rectangle(patch.image), layer.boxes?.[patch.image]);
  const width = grid.width / layer.columns;
  const height = grid.height / layer.rows;
  return {
    x: layout.left(images.indexOf(patch.image)) + grid.x + patch.column * width,
    y: grid.y + patch.row * height,
    width,
    height,
  };
}

/** Give a canvas its size, sharp on any screen, and return its context in CSS pixels. */
export function sizeCanvas(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = false;
  return context;
}

/** Draw the photographs of a strip. */
export function paintPhotos(canvas, layout, images, photoOf) {
  const context = sizeCanvas(canvas, layout.width, layout.panelHeight);
  context.clearRect(0, 0, layout.width, layout.panelHeight);
  context.imageSmoothingEnabled = true;
  images.forEach((image, position) => {
    const { x, y, width, height } = layout.rectangle(image);
    context.drawImage(photoOf(image), layout.left(position) + x, y, width, height);
  });
  return context;
}

/** Draw one strip: photographs beneath, a source above, what lies left of the wipe from `before`. */
export function paintStrip(canvas, layer, layout, under, { images, photo, wipe }, source, before) {
  const context = sizeCanvas(canvas, layout.width, layout.panelHeight);
  context.clearRect(0, 0, layout.width, layout.panelHeight);
  if (photo > 0) context.drawImage(under, 0, 0, layout.width, layout.panelHeight);
  // A grid that covers the padding of its image reaches beyond it.
  context.save();
  context.beginPath();
  images.forEach((image, position) => {
    const at = layout.rectangle(image);
    context.rect(layout.left(position) + at.x, at.y, at.width, at.height);
  });
  context.clip();
  context.globalAlpha = 1 - photo;
  const grids = images.map((image, position) => {
    const grid = gridRectangle(layout.rectangle(image), layer.boxes?.[image]);
    return { ...grid, x: grid.x + layout.left(position), top: image * layer.rows };
  });
  const draw = (canvasOfTokens, { x, y, width, height, top }) =>
    context.drawImage(canvasOfTokens, 0, top, layer.columns, layer.rows, x, y, width, height);
  const wiped = before !== null && wipe > 0 && wipe < 100;
  const whole = before !== null && wipe === 100 ? before : source;
  for (const grid of grids) {
    if (!wiped) {
      draw(whole, grid);
      continue;
    }
    const edge = grid.x + (wipe / 100) * grid.width;
    for (const [from, start, end] of [
      [before, grid.x, edge],
      [source, edge, grid.x + grid.width],
    ]) {
      context.save();
      context.beginPath();
      context.rect(start, grid.y, end - start, grid.height);
      context.clip();
      draw(from, grid);
      context.restore();
    }
  }
  context.globalAlpha = 1;
  if (wiped) {
    context.fillStyle = "#fff";
    for (const { x, y, width, height } of grids) {
      context.fillRect(x + (wipe / 100) * width - 0.75, y, 1.5, height);
    }
  }
  context.restore();
}

/** Outline a square so that it can be seen on any ground. */
export function outline(context, { x, y, width, height }, color, letter = "") {
  context.lineWidth = 4;
  context.strokeStyle = "rgba(0, 0, 0, 0.75)";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  context.lineWidth = 2;
  context.strokeStyle = color;
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  if (!letter) return;
  context.font = "700 10px system-ui, sans-serif";
  context.fillStyle = "rgba(0, 0, 0, 0.75)";
  const top = y > 16 ? y - 15 : y + height + 3;
  context.fillRect(x - 2, top, 13, 13);
  context.fillStyle = color;
  context.textAlign = "center";
  context.fillText(letter, x + 4.5, top + 10);
}
