// What happens when the page opens.

import { usePalette } from "./color.mjs";
import { unpackReport } from "./decode.mjs";
import { startExplorer } from "./explorer.mjs";
import { connectFigures } from "./figures.mjs";
import { createStore, openingState } from "./store.mjs";
import { connectTables } from "./tables.mjs";
import { connectTheme } from "./theme.mjs";

/** The menu closes when a section is chosen; the browser does all else. */
const connectContents = (menu) => menu?.addEventListener("click", () => menu.hidePopover());

async function open() {
  const packed = JSON.parse(document.getElementById("report-data").textContent);
  usePalette(packed.palette);
  const explorer = document.getElementById("explorer");
  const store = explorer && createStore(openingState(packed));
  connectContents(document.getElementById("contents"));
  connectTables(document);
  connectTheme(document.getElementById("theme"), connectFigures(document, packed, store));
  if (explorer) {
    const report = await unpackReport(packed);
    await startExplorer(explorer, report, store, [...document.querySelectorAll("#thumbnails img")]);
  }
  document.documentElement.dataset.ready = "true";
}

open();
