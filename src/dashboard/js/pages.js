// Pages as Lighthouse and visitors' browsers measured them, beside their budgets and the database's health at that moment.
import { h } from "./dom.js";
import { count, duration_ms, number, percent, title, UNKNOWN } from "./format.js";
import { ago, now } from "./clock.js";
import { seconds_of } from "./place.js";
import { chart, drawn } from "./chart.js";
import { badge, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

const drawing = drawn();

export const redraw_pages = drawing.redraw;

export function show_pages({ budgets, builds, vitals, is_critical_time }, range) {
  show("pages", [budgets, builds, vitals, is_critical_time, range], make, { is_empty: builds.length === 0 && vitals.length === 0 });
}

// A measurement by the unit that its budget has.
function measured(value, unit) {
  if (value === null || value === undefined) return UNKNOWN;
  if (unit === "ms") return duration_ms(value);
  if (unit === "score") return count(value * 100);
  return unit === "shift" ? String(Math.round(value * 1000) / 1000) : number(value);
}

// Its unit stands beside the value, and where it comes from beside the table.
function name_of(metric) {
  return title(String(metric).replaceAll(/^vitals_|_ms$/g, ""));
}

function make([budgets, builds, vitals, is_critical_time, range]) {
  drawing.set([]);
  const limits = list(budgets, is_critical_time);
  if (builds.length === 0 && vitals.length === 0) return [nothing("No page was measured in this time."), limits];
  const known = new Map(budgets.map((budget) => [budget.metric, budget]));
  const figures = [...charts(builds, range), ...visits(vitals, range)];
  drawing.set(figures);
  return [
    limits,
    figures.length > 0 ? h("div", { class: "charts" }, figures) : null,
    builds.length > 0 ? table("Lighthouse, newest first", [
      { name: "Page", head: true, class: "statement", value: (row) => [row.url, h("small", {}, [row.project, row.branch, String(row.hash ?? "").slice(0, 8), row.form_factor].filter(Boolean).join(", "))] },
      { name: "Budget", class: "wide", value: (row) => row.within_budget ? badge("within", "within") : row.breaches.map((breach) => broken(breach, known.get(breach.metric))) },
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
      { name: "75 %", class: "number", value: (row) => h("strong", {}, measured(row.p75, unit_of(row))) },
      { name: "Good", class: "number", value: (row) => percent(row.good_percent) },
      { name: "Poor", class: "number", value: (row) => percent(row.poor_percent) },
      { name: "Visits", class: "number", value: (row) => count(row.samples) },
    ], vitals, "vitals") : null,
  ];
}

// A breach, beside the budget that the run was judged by.
function broken({ metric, value, budget }, { unit, is_floor } = {}) {
  return h("div", {}, badge("warning", `${name_of(metric)} ${measured(value, unit)}`), h("small", {}, `${is_floor ? "at least" : "at most"} ${measured(budget, unit)}`));
}

function unit_of({ metric }) {
  return metric === "CLS" ? "shift" : "ms";
}

const MEASURED_BY = { lighthouse: "Lighthouse", vitals: "visitors, 75 %", database: "the database" };

function list(budgets, is_critical_time) {
  if (budgets.length === 0) return null;
  return h("details", { data: { key: "budgets" } },
    h("summary", {}, is_critical_time ? `Budgets (${budgets.length}), tighter for a critical window` : `Budgets (${budgets.length})`),
    h("ul", { class: "plain" }, budgets.map(({ metric, source, budget, unit, is_floor }) =>
      h("li", {}, h("strong", {}, name_of(metric)), ` ${is_floor ? "at least" : "at most"} ${measured(budget, unit)} `, h("span", { class: "soft" }, MEASURED_BY[source] ?? source)))));
}

function over(points, range) {
  const to = now() / 1000;
  return { times: points.map(({ at }) => Date.parse(at) / 1000), points, step: null, from: to - seconds_of(range), to, windows: [], events: [] };
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
  const data = over([...most].reverse().map((build) => ({ ...build, at: build.run_at })), range);
  const of = most[0].url;
  return [
    chart({ title: `Scores of ${of}`, series: [["performance", "performance"], ["accessibility", "accessibility"], ["best practices", "best_practices"]], format: (value) => measured(value, "score"), min: 0, max: 1 }, data),
    chart({ title: "Largest Contentful Paint", series: [["LCP", "lcp_ms"]], format: duration_ms }, data),
    chart({ title: "The database then", series: [["health", "health_score"]], format: count, min: 0, max: 100 }, data),
  ];
}

// What visitors saw, of each metric on the path that was visited most.
function visits(vitals, range) {
  const metrics = new Map();
  for (const vital of vitals) if (!metrics.has(vital.metric)) metrics.set(vital.metric, vital);
  return [...metrics.values()].filter(({ points }) => points.length > 1).map((vital) =>
    chart({ title: `Visitors' ${vital.metric}, ${vital.path}`, series: [["75 %", "p75"]], format: (value) => measured(value, unit_of(vital)) }, over(vital.points, range)));
}
