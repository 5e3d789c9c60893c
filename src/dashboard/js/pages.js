// Pages as Lighthouse and visitors' browsers measured them, beside their budgets and the database's health at that moment.
import { h } from "./dom.js";
import { count, duration_ms, number, percent, title, UNKNOWN } from "./format.js";
import { ago, now } from "./clock.js";
import { seconds_of } from "./place.js";
import { chart, drawn } from "./chart.js";
import { badge, fact, facts, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

const drawing = drawn();

export const redraw_pages = drawing.redraw;

export function show_pages({ budgets, builds, vitals }, range) {
  show("pages", [budgets, builds, vitals, range], make, { is_empty: builds.length === 0 && vitals.length === 0 });
}

// A measurement by the unit that its budget has.
function measured(value, unit) {
  if (value === null || value === undefined) return UNKNOWN;
  if (unit === "ms") return duration_ms(value);
  if (unit === "score") return count(value * 100);
  return unit === "shift" ? String(value) : number(value);
}

// Its unit stands beside the value, and where it comes from beside the table.
function name_of(metric) {
  return title(String(metric).replaceAll(/^vitals_|_ms$/g, ""));
}

function make([budgets, builds, vitals, range]) {
  drawing.set([]);
  const units = new Map(budgets.map((budget) => [budget.metric, budget.unit]));
  if (builds.length === 0 && vitals.length === 0) return [nothing("No page was measured in this time."), list(budgets)];
  const figures = charts(builds, range);
  drawing.set(figures);
  return [
    list(budgets),
    figures.length > 0 ? h("div", { class: "charts" }, figures) : null,
    builds.length > 0 ? table("Lighthouse, newest first", [
      { name: "Page", head: true, class: "statement", value: (row) => [row.url, h("small", {}, [row.project, row.branch, String(row.hash ?? "").slice(0, 8), row.form_factor].filter(Boolean).join(", "))] },
      { name: "Budget", value: (row) => row.within_budget ? badge("within", "within") : badge("warning", row.breaches.map((breach) => `${name_of(breach.metric)} ${measured(breach.value, units.get(breach.metric))}`).join(", ")) },
      { name: "Performance", class: "number", value: (row) => h("strong", {}, measured(row.performance, "score")) },
      { name: "Accessibility", class: "number", value: (row) => measured(row.accessibility, "score") },
      { name: "Best practices", class: "number", value: (row) => measured(row.best_practices, "score") },
      { name: "LCP", class: "number", value: (row) => measured(row.lcp_ms, "ms") },
      { name: "CLS", class: "number", value: (row) => measured(row.cls, "shift") },
      { name: "Database then", value: (row) => row.health_score === null ? UNKNOWN : `${row.health_score} ${row.health_status ?? ""}` },
      { name: "Run", value: (row) => ago(row.run_at) },
    ], builds, "builds") : null,
    vitals.length > 0 ? table("Web Vitals as visitors saw them, 75th percentile", [
      { name: "Path", head: true, class: "object", value: (row) => [row.path, h("small", {}, row.project)] },
      { name: "Metric", value: (row) => name_of(row.metric) },
      { name: "75 %", class: "number", value: (row) => h("strong", {}, /cls/i.test(row.metric) ? measured(row.p75, "shift") : measured(row.p75, "ms")) },
      { name: "Good", class: "number", value: (row) => percent(row.good_percent) },
      { name: "Poor", class: "number", value: (row) => percent(row.poor_percent) },
      { name: "Visits", class: "number", value: (row) => count(row.samples) },
    ], vitals, "vitals") : null,
  ];
}

function list(budgets) {
  if (budgets.length === 0) return null;
  return h("details", { data: { key: "budgets" } }, h("summary", {}, `Budgets (${budgets.length})`),
    facts(...budgets.map(({ metric, budget, unit, is_floor }) => fact(name_of(metric), `${is_floor ? "at least" : "at most"} ${measured(budget, unit)}`))));
}

// Runs as points in time, of the page that was measured most.
function charts(builds, range) {
  const pages = new Map();
  for (const build of builds) {
    const page = `${build.project} ${build.url} ${build.form_factor}`;
    pages.set(page, [...(pages.get(page) ?? []), build]);
  }
  const [most] = [...pages.values()].sort((one, other) => other.length - one.length);
  if (!most || most.length < 2) return [];
  const points = [...most].reverse();
  const to = now() / 1000;
  const data = { times: points.map((point) => Date.parse(point.run_at) / 1000), points, step: null, from: to - seconds_of(range), to, windows: [], events: [] };
  const of = most[0].url;
  return [
    chart({ title: `Scores of ${of}`, series: [["performance", "performance"], ["accessibility", "accessibility"], ["best practices", "best_practices"]], format: (value) => measured(value, "score"), min: 0, max: 1 }, data),
    chart({ title: "Largest Contentful Paint", series: [["LCP", "lcp_ms"]], format: duration_ms }, data),
    chart({ title: "The database then", series: [["health", "health_score"]], format: count, min: 0, max: 100 }, data),
  ];
}
