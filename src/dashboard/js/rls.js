// Row-level security, table by table, as the database judges it.
import { count, title, UNKNOWN } from "./format.js";
import { badge, nothing } from "./parts.js";
import { show } from "./section.js";
import { table } from "./table.js";

export function show_rls(rows, reasons) {
  show("rls", rows, make, { is_empty: rows.length === 0, reasons });
}

function make(rows) {
  if (rows.length === 0) return [nothing("There is no table to look at.")];
  return [table("Row-level security, worst first", [
    { name: "Table", head: true, class: "object", value: (row) => [row.schemaname, ".", row.tablename] },
    { name: "Risk", value: (row) => badge(row.security_risk_level) },
    { name: "Security", value: (row) => [title(row.rls_status.toLowerCase()), row.rls_forced ? ", forced" : ""] },
    { name: "Policies", class: "number", value: (row) => count(row.policy_count) },
    { name: "Reached by", class: "wide", value: (row) => row.exposed_to.length > 0 ? row.exposed_to.join(", ") : "its owner only" },
    { name: "Why", class: "wide", value: (row) => row.reasons.join("; ") || UNKNOWN },
  ], rows, "rls")];
}
