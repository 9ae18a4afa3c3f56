// Numbers, times and elements as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });
const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: 0 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const dayTimes = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

export const NONE = "–";

export function number(value, unit) {
  if (value === null || value === undefined) return NONE;
  switch (unit) {
    case "money": return dollars.format(value);
    case "share": return share.format(value);
    case "milliseconds": return `${tenth.format(value)} ms`;
    case "score": return tenth.format(value);
    default: return whole.format(value);
  }
}

export function short(value, unit) {
  if (unit === "money") return `$${compact.format(value)}`;
  return unit === "share" ? share.format(value) : compact.format(value);
}

export const when = (time) => (time === null || time === undefined ? NONE : moment.format(new Date(time)));
export const time = (at) => clock.format(new Date(at));

// Of today the time of day is enough.
export function arrived(at) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return isToday ? clock.format(at) : when(at);
}

// Hashes that stand for personal values are long, and nobody reads them.
export function identity(value) {
  if (value === null || value === undefined) return NONE;
  return /^h_[0-9a-f]{32}$/.test(value) ? `${value.slice(0, 12)}…` : value;
}

// A moment on an axis, by how wide a bar is and how long the axis.
export function onAxis(ms, widthMs, lengthMs) {
  const day = 86_400_000;
  if (widthMs >= day) return days.format(ms);
  if (lengthMs > day) return dayTimes.format(ms);
  return (widthMs < 60_000 ? seconds : minutes).format(ms);
}

export function amount(value, currency) {
  if (value === null || value === undefined) return NONE;
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).format(value);
  } catch {
    return `${value} ${currency ?? ""}`.trim();
  }
}

// An element; texts become text nodes, so nothing of a record is ever read as HTML.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const OUTCOMES = ["approve", "review", "block"];

export function badge(outcome) {
  const known = OUTCOMES.includes(outcome);
  return make("span", { class: known ? `badge ${outcome}` : "badge" }, known ? outcome : String(outcome ?? NONE));
}
