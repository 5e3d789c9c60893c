// Size and health of tables.
import { h } from "./dom.js";
import { count, percent } from "./format.js";
import { ago } from "./clock.js";
import { badge, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

export function show_tables(rows, reasons) {
  show("tables", rows, make, { is_empty: rows.length === 0, reasons });
}

// The later of two moments, either of which may never have been.
function later(one, other) {
  const latest = [one, other].filter(Boolean).sort((a, b) => Date.parse(a) - Date.parse(b)).pop();
  return latest ? ago(latest) : "never";
}

function make(rows) {
  if (rows.length === 0) return [nothing("There is no table to look at.")];
  return [table("Tables, largest first", [
    { name: "Table", head: true, class: "object", value: (row) => [row.schemaname, ".", row.tablename] },
    { name: "Size", class: "number", value: (row) => h("strong", {}, row.total_size) },
    { name: "Rows", class: "number", value: (row) => count(row.live_tuples) },
    { name: "Dead", class: "number", value: (row) => percent(row.dead_tuple_percent) },
    { name: "Vacuum", value: (row) => row.needs_vacuum ? badge("warning", "needed") : "not needed" },
    { name: "Vacuumed", value: (row) => later(row.last_vacuum, row.last_autovacuum) },
    { name: "Analyzed", value: (row) => later(row.last_analyze, row.last_autoanalyze) },
    { name: "By index", class: "number", value: (row) => percent(row.index_usage_percent) },
    { name: "Scans", class: "number", value: (row) => `${count(row.sequential_scans)} + ${count(row.index_scans)}` },
    { name: "Age of ids", class: "number", value: (row) => count(row.xid_age) },
  ], rows, "tables")];
}
