// One decision, whole: in words first, then all that is known.

import { amount, badge, identity, make, NONE, number, when } from "./format.js";

// Of ours, beside the transaction's own fields.
const OURS = new Set(["decision_ms", "shadow_agrees", "billing_location", "entity_id", "event_id"]);
const TIMES = new Set(["event_time", "scored_at", "label_time"]);

function text(name, value) {
  if (value === null || value === undefined || value === "") return NONE;
  if (TIMES.has(name) || name === "timestamp_ms") return when(value);
  if (typeof value === "object") return Array.isArray(value) ? value.join(", ") : JSON.stringify(value);
  return String(value);
}

// Personal values are hashes: enough to know that there is one, and whether it is the same.
function known(name, value) {
  const shown = identity(value);
  if (shown === value) return text(name, value);
  return make("span", { class: "hashed id", title: value }, `${shown} (hashed)`);
}

function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("dt", {}, name), make("dd", {}, value instanceof Node ? value : String(value)));
  }
  return list;
}

function part(title, ...children) {
  return make("section", {}, make("h3", {}, title), ...children);
}

function reasons(list) {
  const most = Math.max(0.001, ...list.map((one) => one.contribution ?? 0));
  return make("ol", { class: "reasons" }, ...list.map((one) => {
    const why = make("div", {}, one.text ?? NONE, make("div", { class: "code" }, one.code ?? ""));
    if (typeof one.contribution !== "number") return make("li", {}, why);
    const label = `Part in the score: ${one.contribution}`;
    return make("li", {}, why, make("meter", { min: 0, max: most, value: one.contribution, title: label, "aria-label": label }));
  }));
}

export function render(id, record, find) {
  const { fd, label, ...fields } = record;
  const outcome = make("div", { class: "verdict" },
    badge(fd.outcome),
    make("span", {}, "score ", make("strong", {}, number(fd.score, "score"))),
    make("span", {}, make("strong", {}, amount(fields.transaction_amt, fields.transaction_currency))),
    make("span", {}, `fraud probability ${number(fd.probability, "share")}`),
    fd.duplicate ? make("span", { class: "badge" }, "duplicate") : null,
  );
  const entity = fields.entity_id
    ? make("button", { type: "button", class: "link id", title: fields.entity_id, onclick: () => find(fields.entity_id) }, identity(fields.entity_id))
    : NONE;
  const rest = Object.entries(fields).filter(([name]) => !OURS.has(name));
  const parts = [outcome];
  if (fd.reasons?.length) parts.push(part("Why", reasons(fd.reasons)));
  const columns = make("div", { class: "columns" });
  columns.append(part("Transaction", facts([
    ["event", make("span", { class: "id" }, fields.event_id ?? NONE)], ["entity", entity],
    ...rest.map(([name, value]) => [name.replaceAll("_", " "), known(name, value)]),
  ])));
  const decision = part("Decision", facts([
    ["arrived", when(fd.source?.timestamp_ms)], ["decided", when(fd.scored_at)],
    ["rules", (fd.rules ?? []).map((rule) => `${rule.id} v${rule.version} (${rule.outcome})`).join(", ") || "none matched"],
    ["lists", (fd.lists ?? []).map((hit) => `${hit.name} (${hit.use}, ${hit.field})`).join(", ")],
    ["model", fd.model ? `${fd.model.name} ${fd.model.version}` : ""],
    ["policy", fd.policy_version],
    ["decided after", fields.decision_ms === undefined ? "" : number(fields.decision_ms, "milliseconds")],
    ["scoring took", number(fd.frauddetector_time, "milliseconds")],
    ["history seen", Object.entries(fd.history ?? {}).map(([key, rows]) => `${key} ${rows}`).join(", ")],
    ["source", fd.source ? `${fd.source.topic}, partition ${fd.source.partition}, offset ${fd.source.offset}` : ""],
  ]));
  if (fd.shadow) {
    decision.append(make("h3", {}, "Challenger"), facts([
      ["would have decided", badge(fd.shadow.outcome)], ["score", number(fd.shadow.score, "score")],
      ["model", fd.shadow.model ? `${fd.shadow.model.name} ${fd.shadow.model.version}` : ""],
    ]));
  }
  decision.append(make("h3", {}, "What it turned out to be"), label
    ? facts([["label", label.label], ["since", when(label.label_time)], ["says", label.source]])
    : make("p", { class: "hint" }, "Not known yet."));
  columns.append(decision);
  parts.push(columns);
  const features = Object.entries(fd.features ?? {});
  if (features.length) {
    parts.push(make("details", {}, make("summary", {}, `Features (${features.length})`),
      make("table", {}, make("tbody", {}, ...features.map(([name, value]) =>
        make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "number" }, String(value))))))));
  }
  const raw = JSON.stringify(record, null, 2);
  parts.push(make("details", {}, make("summary", {}, "The whole record"), make("pre", { tabindex: 0 }, raw)));
  parts.push(make("p", { class: "hint" }, "Document ", make("span", { class: "id" }, id)));
  return parts;
}
