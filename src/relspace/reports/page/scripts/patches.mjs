// Patches: which one lies where in a panel, and which one the arrow keys lead to.

/** The patch's number among its layer's tokens, which are in image-major, row-major order. */
export const tokenOf = (layer, { image, row, column }) =>
  (image * layer.rows + row) * layer.columns + column;

/** The inverse of `tokenOf`. */
export function patchOf(layer, token, model, layerIndex) {
  const column = token % layer.columns;
  const above = (token - column) / layer.columns;
  const row = above % layer.rows;
  return { model, layer: layerIndex, image: (above - row) / layer.rows, row, column };
}

export const samePatch = (a, b) =>
  a === b ||
  (a !== null &&
    b !== null &&
    ["model", "layer", "image", "row", "column"].every((key) => a[key] === b[key]));

/** The largest rectangle of an image's shape in a panel of the given size, centred. */
export function imageRectangle(panelWidth, panelHeight, { width, height }) {
  const scale = Math.min(panelWidth / width, panelHeight / height);
  return {
    x: (panelWidth - width * scale) / 2,
    y: (panelHeight - height * scale) / 2,
    width: width * scale,
    height: height * scale,
  };
}

/** What of a rectangle the grid covers; `box` is top, left, bottom, right as fractions. */
export function gridRectangle(rectangle, box) {
  const [top, left, bottom, right] = box ?? [0, 0, 1, 1];
  return {
    x: rectangle.x + left * rectangle.width,
    y: rectangle.y + top * rectangle.height,
    width: (right - left) * rectangle.width,
    height: (bottom - top) * rectangle.height,
  };
}

/** The row and column of a point, or null beside the grid. */
export function patchAt(x, y, rectangle, { rows, columns }) {
  const column = Math.floor(((x - rectangle.x) / rectangle.width) * columns);
  const row = Math.floor(((y - rectangle.y) / rectangle.height) * rows);
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}

/**
 * Where an arrow key leads: to the next patch, over the edge into the next image, or into the
 * strip above or below. `strips` are the { model, layer } shown, `images` those shown.
 */
export function movePatch(patch, key, strips, images, models) {
  const { rows, columns } = models[patch.model].layers[patch.layer];
  const at = images.indexOf(patch.image);
  if (key === "ArrowRight" && patch.column + 1 < columns) return { ...patch, column: patch.column + 1 };
  if (key === "ArrowLeft" && patch.column > 0) return { ...patch, column: patch.column - 1 };
  if (key === "ArrowDown" && patch.row + 1 < rows) return { ...patch, row: patch.row + 1 };
  if (key === "ArrowUp" && patch.row > 0) return { ...patch, row: patch.row - 1 };
  if (key === "ArrowRight" && at + 1 < images.length)
    return { ...patch, image: images[at + 1], column: 0 };
  if (key === "ArrowLeft" && at > 0) return { ...patch, image: images[at - 1], column: columns - 1 };
  const step = { ArrowDown: 1, ArrowUp: -1 }[key] ?? 0;
  const strip = strips.findIndex((one) => one.model === patch.model && one.layer === patch.layer);
  const next = strips[strip + step];
  if (step === 0 || next === undefined) return patch;
  const layer = models[next.model].layers[next.layer];
  return {
    ...next,
    image: patch.image,
    row: step > 0 ? 0 : layer.rows - 1,
    column: Math.floor(((patch.column + 0.5) / columns) * layer.columns),
  };
}
