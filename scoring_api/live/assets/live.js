// The live page: sign-in, filters, polling, and what is shown of it.

import { applyTheme, loadBorders, PanelView } from "./charts.js";
import { amount, arrived, badge, identity, make, NONE, number, time, when } from "./format.js";
import { render } from "./record.js";

const EVERY_MS = 5000;
const LONGEST_WAIT_MS = 30_000;
const SHOWN_REASONS = 2;
const FIRST_ROW_END = 20;

const $ = (id) => document.getElementById(id);
const filters = $("filters");
const views = new Map();
const seen = new Set();

let panels = [];
let timer = null;
let asking = null;
let failures = 0;
let isPaused = false;
let isSignedIn = false;
let hasAlerts = false;

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const { body, ...more } = options;
  const answer = await fetch(`live/${path}`, {
    ...more,
    method: more.method ?? (body ? "POST" : "GET"),
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail ?? detail;
  } catch { /* not ours: a proxy's */ }
  throw new Refused(answer.status, detail);
}

// --- State ---

function say(is, what) {
  $("state").dataset.is = is;
  $("state-text").textContent = what;
}

function announce(what) {
  $("said").textContent = what;
}

// --- Signing in and out ---

function showSignIn(problem = "") {
  isSignedIn = false;
  stop();
  $("board").hidden = true;
  $("pause").hidden = $("sign-out").hidden = true;
  $("sign-in").hidden = false;
  $("key-error").textContent = problem;
  $("record").close();
  say("out", "Signed out");
  $("key").focus();
}

async function start() {
  const session = await ask("session");
  isSignedIn = true;
  say("out", "Loading");
  panels = session.panels;
  $("sign-in").hidden = true;
  $("board").hidden = false;
  $("pause").hidden = false;
  $("sign-out").hidden = !session.needs_key;
  $("sign-out").title = `Signed in as ${session.name}`;
  build();
  await Promise.all([loadBorders().catch(() => {}), refresh()]);
  views.get("blocked_map")?.redraw();
  await follow();
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = $("key");
  $("key-error").textContent = "";
  try {
    await ask("session", { body: { key: field.value.trim() } });
    field.value = "";
    await start();
    $("main").focus({ preventScroll: true });
  } catch (problem) {
    const said = { 401: "There is no such API key.", 403: "This key only scores: it takes one of role analyst or admin." };
    $("key-error").textContent = said[problem.status] ?? `Signing in failed: ${problem.message}`;
    field.select();
  }
});

$("sign-out").addEventListener("click", async () => {
  await ask("session", { method: "DELETE" });
  showSignIn();
});

// --- Filters, kept in the fragment of the address: no server sees it ---

function chosen() {
  const form = new FormData(filters);
  return { range: form.get("range"), outcomes: form.getAll("outcome"), find: form.get("find").trim() };
}

const isFiltered = ({ outcomes, find }) => outcomes.length > 0 || find !== "";

function remember() {
  const { range, outcomes, find } = chosen();
  const parts = new URLSearchParams({ range });
  for (const outcome of outcomes) parts.append("outcome", outcome);
  if (find) parts.set("find", find);
  history.replaceState(null, "", `#${parts}`);
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const input of filters.elements) {
    if (input.name === "range" && parts.has("range")) input.checked = input.value === parts.get("range");
    if (input.name === "outcome") input.checked = parts.getAll("outcome").includes(input.value);
    if (input.name === "find") input.value = parts.get("find") ?? "";
  }
  if (!filters.querySelector("[name=range]:checked")) filters.querySelector("[value='1h']").checked = true;
  return parts;
}

async function filtered() {
  remember();
  seen.clear();
  hasAlerts = false;
  const total = await refresh();
  if (total !== undefined) announce(`${number(total)} transactions.`);
}

function find(value) {
  $("record").close();
  $("find").value = value;
  filtered();
  window.scrollTo({ top: 0 });
}

filters.addEventListener("change", filtered);
filters.addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
filters.addEventListener("reset", () => setTimeout(filtered));

// --- Polling ---

function stop() {
  clearTimeout(timer);
  timer = null;
  asking?.abort();
}

function schedule() {
  clearTimeout(timer);
  if (isPaused || document.hidden || !isSignedIn) return;
  timer = setTimeout(refresh, Math.min(LONGEST_WAIT_MS, EVERY_MS * 2 ** Math.min(failures, 3)));
}

async function refresh() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const wanted = chosen();
  try {
    const [board, alerts] = await Promise.all([
      ask("panels", { body: wanted, signal: mine.signal }),
      ask("alerts", { body: wanted, signal: mine.signal }),
    ]);
    failures = 0;
    showAway(null);
    showBoard(board, wanted);
    showAlerts(alerts, wanted);
    say(isPaused ? "paused" : "live", `${isPaused ? "Paused" : "Live"}, ${time(Date.now())}`);
    return board.panels.transactions[0][0];
  } catch (problem) {
    if (problem.name === "AbortError") return undefined;
    if (problem.status === 401 || problem.status === 403) {
      showSignIn(problem.status === 403 ? "This key may not look at decisions." : "The session ended: sign in again.");
      return undefined;
    }
    failures += 1;
    showAway(problem);
    return undefined;
  } finally {
    if (asking === mine) schedule();
  }
}

document.addEventListener("visibilitychange", () => {
  if (!isSignedIn || isPaused) return;
  if (document.hidden) stop();
  else refresh();
});

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  if (isPaused) {
    stop();
    say("paused", `Paused, ${time(Date.now())}`);
  } else {
    refresh();
  }
});

// --- What is shown ---

function build() {
  if (views.size) return;
  for (const panel of panels) {
    const isGlance = panel.chart === "metric" && panel.place.y === 0;
    if (isGlance) {
      const value = make("dd", {}, NONE);
      const card = make("dl", { class: panel.id.startsWith("block") ? "card block" : "card", id: `panel-${panel.id}`, title: panel.text },
        make("dt", {}, panel.title), value);
      $("cards").append(card);
      views.set(panel.id, { update: (rows) => { value.textContent = number(rows[0][0], panel.columns[0].unit); }, redraw() {} });
    } else {
      const view = new PanelView(panel, find);
      views.set(panel.id, view);
      $(panel.place.y < FIRST_ROW_END ? "first-charts" : "charts").append(view.element);
    }
  }
}

function showBoard(board, wanted) {
  const total = board.panels.transactions[0][0];
  const isEmpty = total === 0;
  $("empty").hidden = !isEmpty;
  $("content").hidden = isEmpty;
  if (isEmpty) {
    showEmpty(board.total, wanted);
    return;
  }
  for (const [id, view] of views) view.update(board.panels[id], board);
}

function showEmpty(everything, wanted) {
  const steps = [];
  const actions = [];
  if (isFiltered(wanted)) {
    $("empty-title").textContent = "Nothing matches";
    $("empty-text").textContent = "No decision in this time has what you filter by. Values are looked for exactly as they are.";
    actions.push(make("button", { type: "button", class: "primary", onclick: () => filters.reset() }, "Clear the filters"));
  } else if (everything > 0) {
    $("empty-title").textContent = "No decisions in this time";
    $("empty-text").textContent = `${number(everything)} are older.`;
    const longest = filters.querySelector("[value='30d']");
    actions.push(make("button", { type: "button", class: "primary", onclick: () => { longest.checked = true; filtered(); } }, "Show 30 days"));
  } else {
    $("empty-title").textContent = "No decisions yet";
    $("empty-text").textContent = "They appear here by themselves, a few seconds after a transaction arrives. To get some:";
    steps.push(
      ["Start the simulated customers, if they were left out: ", "make up"],
      ["Replay the example file: ", ".venv/bin/fraudstream replay examples/transactions_2k.csv --mapping examples/transactions_2k.toml"],
      ["Or send your own to Kafka, as JSON on the topic ", "transactions"],
    );
  }
  $("empty-steps").replaceChildren(...steps.map(([what, how]) => make("li", {}, what, make("code", {}, how))));
  $("empty-actions").replaceChildren(...actions);
}

function showAway(problem) {
  $("board").classList.toggle("is-old", problem !== null);
  if ((problem === null) === $("away").hidden && problem === null) return;
  $("away").hidden = problem === null;
  if (problem === null) return;
  const title = problem.status === 503 ? "OpenSearch is not reached." : "No answer.";
  $("away").querySelector("strong").textContent = title;
  $("away-text").textContent = "What is shown may be old; the page tries again by itself.";
  say("away", `Not reached, ${time(Date.now())}`);
}

function showAlerts(alerts, wanted) {
  $("alerts-title").textContent = wanted.outcomes.length ? `Decided ${wanted.outcomes.join(" or ")}, newest first` : "Not approved, newest first";
  $("alerts-hint").textContent = alerts.total > alerts.items.length
    ? `The newest ${number(alerts.items.length)} of ${number(alerts.total)}. Choose one for its full record.`
    : `${number(alerts.total)} in this time. Choose one for its full record.`;
  const focused = document.activeElement?.closest("#alerts tr")?.dataset.id;
  $("alerts").tBodies[0].replaceChildren(...alerts.items.map(row));
  for (const one of alerts.items) seen.add(one.id);
  hasAlerts = true;
  if (focused) document.querySelector(`#alerts tr[data-id="${CSS.escape(focused)}"] button`)?.focus({ preventScroll: true });
}

function row(one) {
  const { fd } = one;
  const why = (fd.reasons ?? []).map((reason) => reason.text).filter(Boolean);
  const rest = why.length - SHOWN_REASONS;
  const at = fd.source?.timestamp_ms;
  const open = make("button", { type: "button", class: "link", "aria-label": `${fd.outcome}, score ${fd.score ?? "none"}, ${when(at)}: show the record` }, arrived(at));
  return make("tr", { "data-id": one.id, class: hasAlerts && !seen.has(one.id) ? "is-new" : null, onclick: () => show(`decisions/${encodeURIComponent(one.id)}`) },
    make("td", { class: "time" }, open),
    make("td", { class: "outcome" }, badge(fd.outcome)),
    make("td", { class: "number score" }, number(fd.score, "score")),
    make("td", { class: "number amount" }, amount(one.transaction_amt, one.transaction_currency)),
    make("td", { class: "entity" }, make("span", { class: "id", title: one.entity_id }, identity(one.entity_id))),
    make("td", { class: "why" }, why.slice(0, SHOWN_REASONS).join(" ") || (fd.rules ?? []).map((rule) => rule.id).join(", ") || NONE,
      rest > 0 ? make("span", { class: "more" }, ` and ${rest} more`) : null),
  );
}

// --- One decision ---

async function show(path, options) {
  const dialog = $("record");
  try {
    const { id, record } = await ask(path, options);
    $("record-title").textContent = `Decision on ${record.event_id ?? id}`;
    $("record-body").replaceChildren(...render(id, record, find));
  } catch (problem) {
    if (problem.status === 401) return showSignIn("The session ended: sign in again.");
    $("record-title").textContent = "Decision";
    const said = { 404: "There is no such decision in the index; it may be older than what is kept.", 503: "OpenSearch is not reached: try again." };
    $("record-body").replaceChildren(make("p", { role: "alert" }, said[problem.status] ?? problem.message));
  }
  if (!dialog.open) dialog.showModal();
  $("record-title").focus();
  dialog.scrollTop = 0;
  return undefined;
}

$("record-close").addEventListener("click", () => $("record").close());
$("record").addEventListener("click", (event) => { if (event.target === $("record")) $("record").close(); });

// A link to one decision or event, as in an alert's mail.
async function follow() {
  const parts = recallOnce;
  recallOnce = new URLSearchParams();
  if (parts.has("decision")) await show(`decisions/${encodeURIComponent(parts.get("decision"))}`);
  else if (parts.has("event")) await show("event", { body: { event_id: parts.get("event") } });
}

addEventListener("hashchange", () => {
  recallOnce = recall();
  if (isSignedIn) refresh().then(follow);
});

// --- Theme ---

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("fraudstream-theme");
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem("fraudstream-theme", name);
  }
  $("theme").textContent = `Theme: ${name}`;
  $("theme").setAttribute("aria-label", `Theme: ${name === "auto" ? "as the system" : name}`);
  applyTheme();
  for (const view of views.values()) view.redraw();
}

$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(document.documentElement.dataset.theme ?? "auto"));

// --- Start ---

let recallOnce = recall();
theme(document.documentElement.dataset.theme ?? "auto");
try {
  await start();
} catch (problem) {
  if (problem.status === 401) showSignIn();
  else showSignIn(`Fraudstream did not answer as expected (${problem.message}): reload the page.`);
}
