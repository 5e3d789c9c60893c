// What changed: charts over the time range, with the critical windows shaded and the events marked.
import { by_id, h } from "./dom.js";
import { bytes, count, duration_ms, number, per_second, percent, short_ms, span } from "./format.js";
import { now } from "./clock.js";
import { seconds_of } from "./place.js";
import { chart, drawn, with_gaps } from "./chart.js";
import { nothing } from "./parts.js";
import { show } from "./section.js";

const SCORE = { title: "Score over time", series: [["Score", "health_score"]], format: count, min: 0, max: 100 };

const CHARTS = [
  { ...SCORE, title: "Health score" },
  { title: "Connections in use", series: [["In use", "connection_utilization_percent"]], format: percent, min: 0, max: 100 },
  { title: "Sessions at work", series: [["all", "average_active_sessions"], ["on locks", "active_on_lock"], ["on disks", "active_on_io"]], format: number },
  { title: "Slow and blocked", series: [["slow", "slow_queries"], ["blocked", "blocked_sessions"]], format: count },
  { title: "Longest", series: [["statement", "longest_statement_ms"], ["transaction", "longest_transaction_ms"]], format: duration_ms, axis: short_ms },
  { title: "Transactions", series: [["all", "transactions_per_second"], ["rolled back", "rollbacks_per_second"]], format: per_second(number) },
  { title: "Read from cache", series: [["Hits", "cache_hit_percent"]], format: percent, max: 100 },
  { title: "Written", series: [["log", "wal_bytes_per_second"], ["temporary", "temp_bytes_per_second"]], format: per_second(bytes) },
  { title: "Findings and events", series: [["findings", "findings"], ["open events", "unresolved_events"]], format: count },
  { title: "Database size", series: [["Size", "database_size_bytes"]], format: bytes },
  { title: "Replication lag", series: [["behind", "replication_lag_bytes"]], format: bytes },
];

const drawing = drawn();

export const redraw = drawing.redraw;

export function show_changed(points, windows, events, range, reasons) {
  show("changed", [points, windows, events, range], () => make(points, windows, events, range), { is_empty: points.length === 0, reasons });
}

function make(points, windows, events, range) {
  drawing.set([]);
  by_id("score-trend").replaceChildren();
  if (points.length === 0) return [nothing("No sample was taken in this time.")];
  const to = now() / 1000;
  const from = to - seconds_of(range);
  const data = {
    ...with_gaps(points),
    from,
    to,
    windows: windows.map((window) => [Date.parse(window.starts_at) / 1000, Date.parse(window.ends_at) / 1000]).filter(([start, end]) => end > from && start < to),
    events: events.map((event) => ({ at: Date.parse(event.created_at) / 1000, severity: event.severity })).filter((event) => event.at >= from),
  };
  const has_values = ({ series }) => series.some(([, key]) => points.some((point) => point[key] !== null));
  const figures = CHARTS.filter(has_values).map((each) => chart(each, data));
  const score = has_values(SCORE) ? [chart(SCORE, data)] : [];
  by_id("score-trend").replaceChildren(...score);
  drawing.set([...score, ...figures]);
  const unseen = CHARTS.filter((each) => !has_values(each)).map((each) => each.title.toLowerCase());
  return [
    h("p", { class: "legend soft" },
      h("span", {}, h("span", { class: "swatch window" }), " critical window"),
      h("span", {}, h("span", { class: "swatch hole" }), " no sample"),
      h("span", {}, h("span", { class: "swatch event" }), " event first seen"),
      data.windows.length > 0 ? h("span", { class: "block" }, windows.map((window) => `${window.label}: ${span(window.starts_at, window.ends_at)}`).join("; ")) : null),
    h("div", { class: "charts" }, figures),
    unseen.length > 0 ? h("p", { class: "soft" }, `Without values: ${unseen.join(", ")}.`) : null,
  ];
}
