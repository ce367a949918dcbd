// Files for the reader: tables as CSV, figures as SVG or PNG. Nothing leaves the page.

/** One field of a CSV line, quoted where it has to be. */
export const csvField = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Lines of fields as CSV (RFC 4180). */
export const toCsv = (lines) => lines.map((line) => line.map(csvField).join(",") + "\r\n").join("");

/** A file's name from a title. */
export const fileName = (title, ending) =>
  `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "relspace"}.${ending}`;

/** Hand a file to the reader. */
export function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Save what a canvas shows as PNG. */
export function saveCanvas(canvas, name) {
  canvas.toBlob((blob) => save(blob, "image/png", name), "image/png");
}

/** Save an SVG as PNG, twice its size. */
export async function saveSvgAsPng(text, ground, name) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * 2;
  canvas.height = image.naturalHeight * 2;
  const context = canvas.getContext("2d");
  context.fillStyle = ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  saveCanvas(canvas, name);
}

/** A table's lines, numbers as they are rather than as they are shown. */
export const tableLines = (table) =>
  [...table.rows].map((row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.textContent.trim()));
