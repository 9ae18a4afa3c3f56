// The panels, drawn by Chart.js; each can be read as a table too.

import { badge, identity, make, number, onAxis, short, when } from "./format.js";

const OUTCOMES = ["approve", "review", "block"];
const STEP = 50;
const HIGHEST_SCORE = 1000;
const LIGHT_SERIES = ["#1f5f8b", "#d98032", "#6b5fb0", "#3a9aa8", "#a8527d", "#7d8b34", "#8a6d58", "#5a7684"];
const DARK_SERIES = ["#6db3e2", "#f0a35e", "#a99bef", "#6fcbd8", "#de8db5", "#b9c766", "#c9a78d", "#9db7c4"];

let borders = null;

export async function loadBorders() {
  const answer = await fetch("live/assets/countries-110m.json");
  if (answer.ok) borders = rings(await answer.json());
}

// The rings of all countries out of TopoJSON: arcs are shared, quantised, and deltas.
function rings(topology) {
  const [scaleX, scaleY] = topology.transform.scale;
  const [moveX, moveY] = topology.transform.translate;
  const arcs = topology.arcs.map((arc) => {
    let x = 0;
    let y = 0;
    return arc.map(([dx, dy]) => [(x += dx) * scaleX + moveX, (y += dy) * scaleY + moveY]);
  });
  const ring = (indexes) => indexes.flatMap((at) => (at < 0 ? arcs[~at].slice().reverse() : arcs[at]));
  return topology.objects.countries.geometries.flatMap((shape) =>
    shape.type === "Polygon" ? shape.arcs.map(ring) : (shape.arcs ?? []).flat().map(ring),
  );
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function color(name, at) {
  if (OUTCOMES.includes(name)) return style(name);
  if (name === "fraud") return style("block");
  if (name === "legitimate") return style("approve");
  const series = isDark() ? DARK_SERIES : LIGHT_SERIES;
  return series[at % series.length];
}

export function applyTheme() {
  const { defaults } = window.Chart;
  defaults.color = style("soft");
  defaults.borderColor = style("line");
  defaults.font.family = getComputedStyle(document.body).fontFamily;
  defaults.font.size = 12;
  defaults.animation = false;
  defaults.maintainAspectRatio = false;
  defaults.plugins.legend.labels.boxWidth = 10;
  defaults.plugins.legend.labels.boxHeight = 10;
  defaults.plugins.legend.position = "bottom";
}

// Names of series in an order that stays: outcomes by severity, others as they come.
function ordered(names) {
  const rank = (name) => (OUTCOMES.includes(name) ? OUTCOMES.indexOf(name) : OUTCOMES.length);
  return [...new Set(names)].sort((a, b) => rank(a) - rank(b));
}

const land = {
  id: "land",
  beforeDatasetsDraw(chart) {
    if (borders === null) return;
    const { ctx, chartArea: area, scales: { x, y } } = chart;
    ctx.save();
    ctx.beginPath();
    ctx.rect(area.left, area.top, area.width, area.height);
    ctx.clip();
    ctx.fillStyle = style("land");
    ctx.strokeStyle = style("coast");
    ctx.lineWidth = 0.8;
    ctx.beginPath();
    for (const ring of borders) {
      let before = null;
      for (const [longitude, latitude] of ring) {
        const at = [x.getPixelForValue(longitude), y.getPixelForValue(latitude)];
        // A ring over the date line would else be drawn across the whole map.
        if (before === null || Math.abs(longitude - before) > 180) ctx.moveTo(...at);
        else ctx.lineTo(...at);
        before = longitude;
      }
    }
    ctx.fill("evenodd");
    ctx.stroke();
    ctx.restore();
  },
};

const valueAxis = (unit, more = {}) => ({
  beginAtZero: true,
  grid: { color: style("line") },
  border: { display: false },
  ticks: { maxTicksLimit: 6, callback: (value) => short(value, unit) },
  ...more,
});
const nameAxis = (more = {}) => ({ grid: { display: false }, border: { color: style("line") }, ...more });

function tooltip(unit, title) {
  const label = (item) => ` ${item.dataset.label}: ${number(item.parsed[item.chart.options.indexAxis === "y" ? "x" : "y"], unit)}`;
  return { callbacks: title ? { label, title } : { label } };
}

// What an axis shows: every bar of the time, every step of the score, or the values there are.
function axis(panel, rows, span) {
  if (panel.over_time) {
    const width = span.interval_ms;
    const first = Math.floor(span.start_ms / width) * width;
    const keys = [];
    for (let at = first; at <= span.end_ms; at += width) keys.push(at);
    return { keys, names: keys.map((at) => onAxis(at, width, span.end_ms - span.start_ms)) };
  }
  if (panel.columns[0].label === "Score") {
    const keys = [];
    for (let at = 0; at <= HIGHEST_SCORE; at += STEP) keys.push(at);
    return { keys, names: keys.map((at) => (at === HIGHEST_SCORE ? `${at}` : `${at}–${at + STEP - 1}`)) };
  }
  const keys = ordered(rows.map((row) => row[0]));
  return { keys, names: keys };
}

function bars(panel, rows, span) {
  const unit = panel.columns.at(-1).unit;
  const { keys, names } = axis(panel, rows, span);
  const place = new Map(keys.map((key, at) => [key, at]));
  const series = panel.splits > 1 ? ordered(rows.map((row) => row[1])) : [panel.columns.at(-1).label];
  const datasets = series.map((name, at) => {
    const data = new Array(keys.length).fill(0);
    for (const row of rows) {
      if (panel.splits > 1 && row[1] !== name) continue;
      if (place.has(row[0])) data[place.get(row[0])] += row.at(-1);
    }
    return { label: name, data, backgroundColor: color(name, at), stack: "all", categoryPercentage: 0.92, barPercentage: 0.95 };
  });
  return {
    type: "bar",
    data: { labels: names, datasets },
    options: {
      interaction: { mode: "index", intersect: false },
      plugins: { tooltip: tooltip(unit), legend: { display: series.length > 1 } },
      scales: { x: nameAxis({ stacked: true, ticks: { maxRotation: 0, autoSkipPadding: 14 } }), y: valueAxis(unit, { stacked: true }) },
    },
  };
}

function lines(panel, rows, span) {
  const { keys, names } = axis(panel, rows, span);
  const by = new Map(rows.map((row) => [row[0], row]));
  const columns = panel.columns.slice(1);
  return {
    type: "line",
    data: {
      labels: names,
      datasets: columns.map((column, at) => ({
        label: column.label,
        data: keys.map((key) => by.get(key)?.[at + 1] ?? null),
        borderColor: color(column.label, at),
        backgroundColor: color(column.label, at),
        borderWidth: 2, pointRadius: 0, pointHitRadius: 8, tension: 0.25, spanGaps: true,
      })),
    },
    options: {
      interaction: { mode: "index", intersect: false },
      plugins: { tooltip: tooltip(columns[0].unit) },
      scales: {
        x: nameAxis({ ticks: { maxRotation: 0, autoSkipPadding: 14 } }),
        y: valueAxis(columns[0].unit, { ticks: { maxTicksLimit: 6, callback: (value) => `${short(value)} ms` } }),
      },
    },
  };
}

function ranking(panel, rows) {
  const unit = panel.columns[1].unit;
  const isBlocked = panel.columns[1].label === "Blocked";
  return {
    type: "bar",
    data: {
      labels: rows.map((row) => String(row[0])),
      datasets: [{
        label: panel.columns[1].label, data: rows.map((row) => row[1]), maxBarThickness: 22, borderRadius: 3,
        backgroundColor: isBlocked ? style("block") : color("", 0),
      }],
    },
    options: {
      indexAxis: "y",
      plugins: { tooltip: tooltip(unit), legend: { display: false } },
      scales: {
        x: valueAxis(unit, { ticks: { precision: 0, maxTicksLimit: 5 } }),
        y: nameAxis({ ticks: { autoSkip: false, callback(value) { return shortened(this.getLabelForValue(value)); } } }),
      },
    },
  };
}

function shortened(text) {
  return text.length > 26 ? `${text.slice(0, 25)}…` : text;
}

function donut(panel, rows) {
  const sorted = ordered(rows.map((row) => row[0])).map((name) => rows.find((row) => row[0] === name));
  const total = sorted.reduce((sum, row) => sum + row[1], 0);
  return {
    type: "doughnut",
    data: {
      labels: sorted.map((row) => `${row[0]} ${number(row[1] / total, "share")}`),
      datasets: [{
        label: panel.columns[1].label, data: sorted.map((row) => row[1]),
        backgroundColor: sorted.map((row, at) => color(row[0], at)), borderColor: style("surface"), borderWidth: 2,
      }],
    },
    options: {
      cutout: "62%",
      plugins: { tooltip: { callbacks: { label: (item) => ` ${number(item.parsed)}` } } },
    },
  };
}

// Bounds of the map: what there is with some room, in the shape of the drawing, never beyond the world.
function bounds(rows, ratio) {
  const latitudes = rows.map((row) => row[0]);
  const longitudes = rows.map((row) => row[1]);
  let south = Math.min(...latitudes) - 7, north = Math.max(...latitudes) + 7;
  let west = Math.min(...longitudes) - 6, east = Math.max(...longitudes) + 6;
  const stretch = 1 / Math.max(0.35, Math.cos((((south + north) / 2) * Math.PI) / 180));
  const height = Math.max(north - south, (east - west) / ratio / stretch, 8);
  const width = Math.max(east - west, height * ratio * stretch);
  const middleY = (south + north) / 2, middleX = (west + east) / 2;
  return { south: middleY - height / 2, north: middleY + height / 2, west: middleX - width / 2, east: middleX + width / 2 };
}

function map(panel, rows, _span, canvas) {
  const most = Math.max(1, ...rows.map((row) => row[2]));
  const box = canvas.parentElement.getBoundingClientRect();
  const seen = bounds(rows, Math.max(0.5, box.width / Math.max(1, box.height)));
  return {
    type: "bubble",
    plugins: [land],
    data: {
      datasets: [{
        label: panel.columns[2].label,
        data: rows.map(([latitude, longitude, count]) => ({ x: longitude, y: latitude, r: 4 + 14 * Math.sqrt(count / most), count })),
        backgroundColor: `${style("block")}99`, borderColor: style("block"), borderWidth: 1,
      }],
    },
    options: {
      layout: { autoPadding: false },
      plugins: {
        legend: { display: false },
        tooltip: { callbacks: { label: ({ raw }) => ` ${number(raw.count)} at ${raw.y.toFixed(1)}, ${raw.x.toFixed(1)}` } },
      },
      scales: { x: { display: false, min: seen.west, max: seen.east }, y: { display: false, min: seen.south, max: seen.north } },
    },
  };
}

const DRAWN = { bars, lines, ranking, donut, map };

export class PanelView {
  #panel;
  #element;
  #canvas;
  #chart = null;
  #last = null;
  #find;

  constructor(panel, find) {
    this.#panel = panel;
    this.#find = find;
    const element = document.getElementById("panel-template").content.cloneNode(true).firstElementChild;
    element.id = `panel-${panel.id}`;
    element.dataset.chart = panel.chart;
    element.dataset.w = panel.place.w;
    const title = element.querySelector("h3");
    title.textContent = panel.title;
    title.id = `title-${panel.id}`;
    element.setAttribute("aria-labelledby", title.id);
    element.querySelector(".hint").textContent = panel.text;
    const scroll = element.querySelector(".scroll");
    scroll.setAttribute("aria-labelledby", title.id);
    const header = element.querySelector("thead tr");
    for (const column of panel.columns) {
      header.append(make("th", { scope: "col", class: column.unit ? "number" : null }, column.label));
    }
    this.#element = element;
    this.#canvas = element.querySelector("canvas");
    const toggle = element.querySelector(".as-table");
    if (DRAWN[panel.chart]) {
      toggle.setAttribute("aria-label", `${panel.title} as a table`);
      toggle.addEventListener("click", () => this.#show(toggle));
    } else {
      toggle.remove();
      this.#canvas.remove();
      element.querySelector(".drawing").hidden = panel.chart === "table";
      scroll.hidden = panel.chart !== "table";
    }
  }

  get element() {
    return this.#element;
  }

  #show(toggle) {
    const asTable = toggle.getAttribute("aria-expanded") !== "true";
    toggle.setAttribute("aria-expanded", String(asTable));
    toggle.textContent = asTable ? "Chart" : "Table";
    this.#element.querySelector(".drawing").hidden = asTable;
    this.#element.querySelector(".scroll").hidden = !asTable;
    if (!asTable) this.redraw();
  }

  update(rows, span) {
    this.#last = { rows, span };
    this.#table(rows);
    const none = this.#element.querySelector(".none");
    if (this.#panel.chart === "metric") {
      none.hidden = true;
      const drawing = this.#element.querySelector(".drawing");
      drawing.querySelector(".big")?.remove();
      drawing.prepend(make("p", { class: "big" }, number(rows[0][0], this.#panel.columns[0].unit)));
      return;
    }
    none.hidden = rows.length > 0;
    if (!DRAWN[this.#panel.chart] || rows.length === 0) return;
    const config = DRAWN[this.#panel.chart](this.#panel, rows, span, this.#canvas);
    if (this.#chart === null) {
      this.#chart = new window.Chart(this.#canvas, config);
    } else {
      this.#chart.data = config.data;
      this.#chart.options = config.options;
      this.#chart.update("none");
    }
    this.#canvas.setAttribute("aria-label", this.#summary(rows));
  }

  // Colours and shapes are made anew, as after another theme or width.
  redraw() {
    this.#chart?.destroy();
    this.#chart = null;
    if (this.#last) this.update(this.#last.rows, this.#last.span);
  }

  #summary(rows) {
    const columns = this.#panel.columns;
    const last = columns.length - 1;
    if (this.#panel.chart === "map") return `${this.#panel.title}: ${number(rows.length)} places`;
    const name = this.#panel.over_time ? columns.length > 2 && !columns[1].unit ? 1 : null : 0;
    if (name === null) {
      const newest = rows.at(-1);
      return `${this.#panel.title}, newest: ${columns.slice(1).map((column, at) => `${column.label} ${number(newest[at + 1], column.unit)}`).join(", ")}`;
    }
    const sums = new Map();
    for (const row of rows) sums.set(row[name], (sums.get(row[name]) ?? 0) + row[last]);
    const most = [...sums].sort((a, b) => b[1] - a[1]).slice(0, 5);
    return `${this.#panel.title}: ${most.map(([key, sum]) => `${key} ${number(sum, columns[last].unit)}`).join(", ")}`;
  }

  #table(rows) {
    const columns = this.#panel.columns;
    const canFind = ["Entity", "IP address"].includes(columns[0].label);
    const body = this.#element.querySelector("tbody");
    body.replaceChildren(...rows.map((row) => make("tr", {}, ...row.map((cell, at) => {
      if (columns[at].unit) return make("td", { class: "number" }, number(cell, columns[at].unit));
      if (at === 0 && this.#panel.over_time) return make("td", { class: "time" }, when(cell));
      if (at === 0 && canFind) return make("td", {}, make("button", { type: "button", class: "link id", title: String(cell), onclick: () => this.#find(String(cell)) }, identity(String(cell))));
      if (OUTCOMES.includes(cell)) return make("td", {}, badge(cell));
      return make("td", {}, typeof cell === "number" ? String(Math.round(cell * 100) / 100) : String(cell));
    }))));
  }
}

