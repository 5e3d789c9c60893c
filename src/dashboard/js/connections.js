// Who is connected, and how much room is left.
import { h } from "./dom.js";
import { count, duration_ms, percent } from "./format.js";
import { fact, facts, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

export function show_connections(rows, reasons) {
  show("connections", rows, make, { is_empty: rows.length === 0, reasons });
}

function make(rows) {
  if (rows.length === 0) return [nothing("Nobody is connected.")];
  // Each row says the same of the whole server.
  const server = rows[0];
  const bar = h("div", { class: "gauge", "aria-hidden": "true" }, h("span"));
  bar.firstChild.style.setProperty("--share", Math.min(1, (server.utilization_percent ?? 0) / 100));
  return [
    h("p", {}, h("strong", {}, percent(server.utilization_percent)), ` in use: ${count(server.total_connections)} open, at most ${count(server.max_connections)}`),
    bar,
    facts(
      fact("Active", count(server.active_connections)),
      fact("Idle", count(server.idle_connections)),
      fact("Idle in transaction", count(server.idle_in_transaction)),
      fact("Wait for a lock", count(server.waiting_for_lock)),
      fact("Longest transaction", duration_ms(server.longest_transaction_ms))),
    table("Connections by database", [
      { name: "Database", head: true, value: (row) => row.database_name },
      { name: "Connections", class: "number", value: (row) => count(row.database_connections) },
    ], rows, "connections"),
  ];
}
