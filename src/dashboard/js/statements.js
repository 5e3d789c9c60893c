// Which statements took the most time since they are counted.
import { h } from "./dom.js";
import { bytes, count, duration_ms, percent } from "./format.js";
import { ago } from "./clock.js";
import { code, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

export function show_statements(rows, reasons) {
  show("statements", rows, make, { is_empty: rows.length === 0, reasons });
}

function make(rows) {
  if (rows.length === 0) return [nothing("No statement is counted.")];
  return [table("Statements by the time they took in all, most first", [
    { name: "Statement", head: true, class: "statement", value: (row) => code(row.query_preview) },
    { name: "Share", class: "number", value: (row) => h("strong", {}, percent(row.time_percent)) },
    { name: "Calls", class: "number", value: (row) => count(row.calls) },
    { name: "Mean", class: "number", value: (row) => duration_ms(row.mean_exec_ms) },
    { name: "Longest", class: "number", value: (row) => duration_ms(row.max_exec_ms) },
    { name: "In all", class: "number", value: (row) => duration_ms(row.total_exec_ms) },
    { name: "Rows", class: "number", value: (row) => count(row.rows) },
    { name: "From cache", class: "number", value: (row) => percent(row.cache_hit_percent) },
    { name: "Temporary", class: "number", value: (row) => bytes(row.temp_blocks_written * 8192) },
    ...("username" in rows[0] ? [{ name: "Role", value: (row) => row.username }] : []),
    { name: "Counted since", value: (row) => ago(row.counted_since) },
  ], rows, "statements")];
}
