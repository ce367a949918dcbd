// Tables: a filter over their rows, and a button that saves them.

import { fileName, save, tableLines, toCsv } from "./download.mjs";

/** Whether a row's text holds every word looked for. */
export const holdsWords = (text, words) =>
  words.every((word) => text.toLowerCase().includes(word));

/** Make every table on the page savable, and those with a filter filterable. */
export function connectTables(root) {
  for (const frame of root.querySelectorAll(".table")) {
    const table = frame.querySelector("table");
    const title = table.caption.textContent;
    frame.querySelector("[data-part=csv]").addEventListener("click", () => {
      save(toCsv(tableLines(table)), "text/csv", fileName(title, "csv"));
    });
    frame.querySelector("[data-part=table-filter]")?.addEventListener("input", ({ target }) => {
      const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) row.hidden = !holdsWords(row.textContent, words);
    });
  }
  for (const button of root.querySelectorAll("[data-part=save-picture]")) {
    button.addEventListener("click", async () => {
      const images = [...button.closest("figure").querySelectorAll("img")];
      const image = images.find((one) => one.offsetParent !== null);
      const [, type, base64] = image.src.match(/^data:([^;]+);base64,(.*)$/s);
      const bytes = Uint8Array.from(atob(base64), (mark) => mark.charCodeAt(0));
      save(bytes, type, fileName(image.alt, "png"));
    });
  }
}
