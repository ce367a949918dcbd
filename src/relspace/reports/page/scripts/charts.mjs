// Figures as SVG text: layer x layer maps, curves, scatters. No document is needed to make them.

import { cssColor } from "./color.mjs";

const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/** Text that means itself within SVG. */
export const escapeText = (text) =>
  String(text).replace(/[&<>"]/g, (mark) => `&${{ "&": "amp", "<": "lt", ">": "gt", '"': "quot" }[mark]};`);

/** Text of a length at most: the middle of a longer one is an ellipsis. */
export function short(text, length) {
  if (text.length <= length) return text;
  const end = (length - 1) >> 1;
  return `${text.slice(0, length - 1 - end)}\u2026${text.slice(text.length - end)}`;
}

/** Short text as SVG, that says the whole when it is pointed at. */
const named = (text, length) =>
  text.length > length ? `<title>${escapeText(text)}</title>${escapeText(short(text, length))}` : escapeText(text);

function svg(width, height, title, content, colors) {
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" ` +
    `height="${height}" font-family="${FONT}" font-size="12" fill="${colors.ink}" role="img" ` +
    `aria-label="${escapeText(title)}">${content}</svg>`
  );
}

/** Round steps that cover a range: 1, 2 or 5 times a power of ten. */
export function ticks(low, high, count = 5) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i += 1) {
    found.push(Number((i * step).toPrecision(6)));
  }
  return found;
}

const finite = (values) => values.flat().filter((value) => value !== null);

/** What the colours of tables say that share them: the range, chance at one end where it is known. */
export function sharedScale(tables) {
  const values = finite(tables.map((table) => table.values.flat()));
  const chances = [...new Set(finite(tables.map(({ chance }) => [chance])))];
  const isDistance = tables[0].is_distance;
  const low = Math.min(...values, ...(isDistance ? [] : chances));
  const high = Math.max(...values, ...(isDistance ? chances : []));
  const range = high > low ? [low, high] : [low - 0.5, high + 0.5];
  return { title: tables[0].scale, range, chances, isDistance };
}

/** The share of the way from unlike to alike. */
const likeness = ({ range: [low, high], isDistance }, value) =>
  (isDistance ? high - value : value - low) / (high - low);

function scaleBar(scale, map, colors, left, top) {
  const [width, height, steps] = [300, 12, 60];
  const [low, high] = scale.range;
  const x = (value) => left + (width * (value - low)) / (high - low);
  const step = width / steps;
  const bar = Array.from({ length: steps }, (_, i) => {
    const value = low + ((i + 0.5) / steps) * (high - low);
    return `<rect x="${left + i * step}" y="${top}" width="${step + 0.5}" height="${height}" fill="${cssColor(map, likeness(scale, value))}"/>`;
  });
  const says = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "\u2212");
  const end = (value, anchor) =>
    `<text x="${x(value)}" y="${top + height + 19}" text-anchor="${anchor}" fill="${colors.quiet}">${says(value)}</text>`;
  const marks = scale.chances.map(
    (value) => `<path d="M${x(value)} ${top + height}l-4.5 7h9z" fill="${colors.ink}"/>`,
  );
  const chance = scale.chances.length > 0 ? ` \u00b7 \u25b2 chance ${scale.chances.map(says).join(", ")}` : "";
  return (
    `<text x="${left}" y="${top - 7}" font-weight="600">${named(scale.title, 60)}` +
    `<tspan fill="${colors.quiet}" font-weight="400"> \u00b7 lighter is more alike${chance}</tspan></text>` +
    [...bar, end(low, "start"), end(high, "end"), ...marks].join("")
  );
}

/** The legend of tables that share their colours. */
export const legend = (scale, map, colors) =>
  svg(520, 60, `Colours of ${scale.title}`, scaleBar(scale, map, colors, 6, 22), colors);

/** The cells of each row's and each column's most alike layer. */
export function bestMatches({ values, is_distance: isDistance }) {
  const likeness = values.map((line) => line.map((value) => (value === null ? -Infinity : isDistance ? -value : value)));
  const best = (line) => (line.some(Number.isFinite) ? line.indexOf(Math.max(...line)) : -1);
  const ofRows = likeness.map((line, row) => ({ row, column: best(line), ofRow: true }));
  const ofColumns = values[0].map((_, column) => ({ row: best(likeness.map((line) => line[column])), column, ofRow: false }));
  return [...ofRows, ...ofColumns].filter(({ row, column }) => row >= 0 && column >= 0);
}

/**
 * A layer x layer table in colour; each cell says in data attributes which layers it is about.
 * Where it stands alone, as in a file, it has its legend with it.
 */
export function layerMap(table, scale, map, colors, { chosen = null, alone = false } = {}) {
  const cell = Math.max(22, Math.min(46, 410 / Math.max(table.column_layers.length, table.row_layers.length)));
  const left = 138;
  const top = 24;
  const width = left + cell * table.column_layers.length + 16;
  const bottom = top + cell * table.row_layers.length + 86;
  const share = (value) => likeness(scale, value);
  const parts = [
    `<text x="${left}" y="14" font-weight="600">${named(table.column_model, 50)}</text>`,
    `<text x="14" y="${top}" font-weight="600" text-anchor="end" transform="rotate(-90 14 ${top})">${named(table.row_model, 50)}</text>`,
  ];
  table.values.forEach((line, row) => {
    const y = top + row * cell;
    parts.push(
      `<text x="${left - 8}" y="${y + cell / 2 + 4}" text-anchor="end">${named(table.row_layers[row], 16)}</text>`,
    );
    line.forEach((value, column) => {
      const x = left + column * cell;
      const shade = value === null ? "none" : cssColor(map, share(value));
      const p = table.p_values?.[row]?.[column];
      const says =
        `${table.row_layers[row]} and ${table.column_layers[column]}: ` +
        `${value === null ? "none" : value.toFixed(3)}${p == null ? "" : `, p ${p.toPrecision(2)}`}`;
      parts.push(
        `<g class="cell" data-row="${row}" data-column="${column}" role="button" tabindex="${row + column === 0 ? 0 : -1}" aria-label="${escapeText(says)}">` +
          `<title>${escapeText(says)}</title>` +
          `<rect x="${x + 0.75}" y="${y + 0.75}" width="${cell - 1.5}" height="${cell - 1.5}" rx="2" fill="${shade}"/>` +
          (value !== null && cell >= 30
            ? `<text x="${x + cell / 2}" y="${y + cell / 2 + 4}" text-anchor="middle" font-size="11" fill="${share(value) > 0.62 ? "#141414" : "#ffffff"}">${value.toFixed(2).replace(/^0/, "").replace(/^-0/, "-")}</text>`
            : "") +
          "</g>",
      );
    });
  });
  for (const { row, column, ofRow } of bestMatches(table)) {
    const [x, y] = [left + (column + 1) * cell - 5, top + row * cell + 5];
    const mark = ofRow ? `<circle cx="${x}" cy="${y}" r="2.6"/>` : `<path d="M${x - cell + 7.4} ${y - 2.6}h5.2v5.2h-5.2z"/>`;
    parts.push(`<g fill="#ffffff" stroke="#141414" pointer-events="none">${mark}</g>`);
  }
  table.column_layers.forEach((name, column) => {
    const x = left + (column + 0.5) * cell;
    const y = top + cell * table.row_layers.length + 14;
    parts.push(
      `<text x="${x + 4}" y="${y}" text-anchor="end" transform="rotate(-38 ${x + 4} ${y})">${named(name, 14)}</text>`,
    );
  });
  if (chosen) {
    parts.push(
      `<rect x="${left + chosen[1] * cell}" y="${top + chosen[0] * cell}" width="${cell}" height="${cell}" rx="3" fill="none" stroke="${colors.ink}" stroke-width="2.5"/>`,
    );
  }
  if (!alone) return svg(width, bottom, table.title, parts.join(""), colors);
  parts.push(scaleBar(scale, map, colors, 14, bottom + 22));
  return svg(Math.max(width, 520), bottom + 64, table.title, parts.join(""), colors);
}

const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

/** Curves over ordered labels, with their names at their ends and the chance level dashed. */
export function curves(chart, colors) {
  const [width, height, left, right, top, bottom] = [620, 320, 52, 170, 16, 74];
  const all = finite([...chart.curves.map(({ values }) => values), chart.chance === null ? [] : [chart.chance]]);
  const low = Math.min(0, ...all);
  const high = Math.max(...all) * 1.06 || 1;
  const n = chart.labels.length;
  const x = (i) => left + ((width - left - right) * (n === 1 ? 0.5 : i / (n - 1)));
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const parts = [];
  for (const tick of ticks(low, high)) {
    parts.push(
      `<line x1="${left}" x2="${width - right}" y1="${y(tick)}" y2="${y(tick)}" stroke="${colors.line}"/>`,
      `<text x="${left - 8}" y="${y(tick) + 4}" text-anchor="end" fill="${colors.quiet}">${tick}</text>`,
    );
  }
  const every = Math.ceil(n / 14);
  chart.labels.forEach((label, i) => {
    if (i % every > 0) return;
    const below = height - bottom + 18;
    parts.push(
      `<text x="${x(i) + 4}" y="${below}" text-anchor="end" fill="${colors.quiet}" transform="rotate(-32 ${x(i) + 4} ${below})">${named(label, 14)}</text>`,
    );
  });
  parts.push(`<text x="${left}" y="${top - 4}" fill="${colors.quiet}">${escapeText(chart.y_title)}</text>`);
  if (chart.chance !== null) {
    parts.push(
      `<line x1="${left}" x2="${width - right}" y1="${y(chart.chance)}" y2="${y(chart.chance)}" stroke="${colors.quiet}" stroke-dasharray="4 4"/>`,
    );
  }
  const ends = chart.curves.map(({ title, values, is_control: isControl }, index) => {
    const color = isControl ? colors.quiet : colors.series[index % colors.series.length];
    const dash = DASHES[isControl ? 2 : Math.floor(index / colors.series.length) % DASHES.length];
    const points = values.map((value, i) => (value === null ? null : [x(i), y(value)]));
    const path = points
      .map((point, i) => point && `${i > 0 && points[i - 1] ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`)
      .filter(Boolean)
      .join("");
    parts.push(`<path d="${path}" fill="none" stroke="${color}" stroke-width="2.2" stroke-dasharray="${dash}" stroke-linejoin="round"/>`);
    points.forEach((point, i) => {
      if (point === null) return;
      const says = `${title}, ${chart.labels[i]}: ${values[i].toFixed(3)}`;
      parts.push(
        `<circle cx="${point[0].toFixed(1)}" cy="${point[1].toFixed(1)}" r="3.2" fill="${colors.ground}" stroke="${color}" stroke-width="2"><title>${escapeText(says)}</title></circle>`,
      );
    });
    return { title, color, at: points.findLast(Boolean)?.[1] ?? top };
  });
  if (chart.chance !== null) ends.push({ title: "chance", color: colors.quiet, at: y(chart.chance) });
  for (const { title, color, at } of spread(ends, 15, top + 4, height - bottom)) {
    parts.push(`<text x="${width - right + 10}" y="${at + 4}" fill="${color}" font-weight="600">${named(title, 24)}</text>`);
  }
  return svg(width, height, chart.title, parts.join(""), colors);
}

/** Move labels apart until none covers another, from the top down, then back within the bottom. */
export function spread(labels, gap, low, high) {
  const placed = [...labels].sort((a, b) => a.at - b.at).map((label) => ({ ...label }));
  placed.forEach((label, i) => {
    label.at = Math.max(label.at, i > 0 ? placed[i - 1].at + gap : low);
  });
  for (let i = placed.length - 1; i >= 0; i -= 1) {
    const limit = i + 1 < placed.length ? placed[i + 1].at - gap : high;
    placed[i].at = Math.min(placed[i].at, limit);
  }
  return placed;
}

const MARKS = [
  (x, y) => `<circle cx="${x}" cy="${y}" r="3.6"/>`,
  (x, y) => `<path d="M${x - 3.6} ${y - 3.6}h7.2v7.2h-7.2z"/>`,
  (x, y) => `<path d="M${x} ${y - 4.6}l4.4 7.8h-8.8z"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 5l-5 5l-5 -5z"/>`,
];

/** Items of several sets as points: a mark per set, colours as given, the same item linked. */
export function scatter(chart, colors, linked = null) {
  const [width, height, margin, legend] = [720, 460, 18, 26];
  const all = chart.sets.flatMap(({ points }) => points);
  const range = (axis) => {
    const values = all.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  };
  const [[left, right], [bottom, top]] = [range(0), range(1)];
  const at = ([px, py]) => [
    (margin + ((width - 2 * margin) * (px - left)) / (right - left || 1)).toFixed(1),
    (legend + margin + (height - legend - 2 * margin) * (1 - (py - bottom) / (top - bottom || 1))).toFixed(1),
  ].map(Number);
  const parts = [];
  let along = margin;
  chart.sets.forEach(({ name }, index) => {
    parts.push(
      `<g fill="${colors.quiet}">${MARKS[index % MARKS.length](along + 4, 13)}</g>`,
      `<text x="${along + 16}" y="17">${named(name, 30)}</text>`,
    );
    along += 40 + 7.2 * Math.min(30, name.length);
  });
  chart.sets.forEach(({ name, points, colors: own }, index) => {
    const marks = points.map((point, item) => {
      const [x, y] = at(point);
      const says = `${chart.items[item]} (${name})`;
      return `<g class="item" data-item="${item}" fill="rgb(${own[item].join(",")})"><title>${escapeText(says)}</title>${MARKS[index % MARKS.length](x, y)}</g>`;
    });
    parts.push(`<g stroke="${colors.ground}" stroke-width="0.7">${marks.join("")}</g>`);
  });
  if (linked !== null) {
    const spots = chart.sets.map(({ points }) => at(points[linked]));
    parts.push(
      `<g pointer-events="none"><path d="M${spots.map((spot) => spot.join(" ")).join("L")}" fill="none" stroke="${colors.ink}" stroke-width="1.6"/>`,
      ...spots.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="7" fill="none" stroke="${colors.ink}" stroke-width="2"/>`),
      "</g>",
    );
  }
  return svg(width, height, chart.title, parts.join(""), colors);
}
