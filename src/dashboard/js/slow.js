// Statements that take longer than the threshold at this moment.
import { h } from "./dom.js";
import { duration_ms } from "./format.js";
import { code, nothing } from "./parts.js";
import { set_count, show } from "./section.js";
import { table } from "./table.js";

export function show_slow(rows, reasons) {
  show("slow", rows, make, { is_empty: rows.length === 0, reasons });
  set_count("slow", rows.length);
}

function make(rows) {
  if (rows.length === 0) return [nothing("No statement takes long.")];
  return [table("Statements that run longer than the threshold, longest first", [
    { name: "Statement", head: true, class: "statement", value: (row) => code(row.query_preview) },
    { name: "Running", class: "number", value: (row) => h("strong", {}, duration_ms(row.duration_ms)) },
    { name: "Transaction", class: "number", value: (row) => duration_ms(row.transaction_ms) },
    { name: "Waits for", value: (row) => [row.wait_event_category ?? "nothing", row.blocked_by.length > 0 ? ` (process ${row.blocked_by.join(", ")})` : ""] },
    { name: "Application", value: (row) => row.application_name },
    ...("username" in rows[0] ? [{ name: "Role", value: (row) => [row.username, row.client_addr ? h("small", {}, row.client_addr) : null] }] : []),
    { name: "Process", class: "number", value: (row) => row.pid },
  ], rows, "slow")];
}
