// What was recorded, by checks and by people, and resolving it.
import { h } from "./dom.js";
import { count, title } from "./format.js";
import { ago } from "./clock.js";
import { badge, nothing } from "./parts.js";
import { set_count, show } from "./section.js";
import { table } from "./table.js";

// `resolve` is called with the event to resolve; null for who may not.
export function show_events(rows, reasons, resolve) {
  show("events", [rows, resolve !== null], () => make(rows, resolve), { is_empty: rows.length === 0, reasons });
  set_count("events", rows.filter((row) => row.resolved_at === null).length);
}

function make(rows, resolve) {
  if (rows.length === 0) return [nothing("Nothing was recorded in this time.")];
  const columns = [
    { name: "Event", head: true, value: (row) => title(row.event_type) },
    { name: "Severity", value: (row) => badge(row.severity) },
    { name: "First seen", value: (row) => ago(row.created_at) },
    { name: "Last seen", value: (row) => ago(row.last_seen_at) },
    { name: "Seen", class: "number", value: (row) => `${count(row.occurrences)} ×` },
    ...("source_ip" in rows[0] ? [{ name: "Recorded from", value: (row) => [row.source_ip ?? "", row.user_agent ? h("small", {}, row.user_agent) : null] }] : []),
    { name: "Resolved", value: (row) => row.resolved_at ? ago(row.resolved_at) : resolve ? button(row, resolve) : "open" },
  ];
  return [table("Events, the one seen last first", columns, rows, "events")];
}

function button(row, resolve) {
  return h("button", { type: "button", class: "small", data: { key: `resolve ${row.id}` }, "aria-label": `Resolve ${title(row.event_type)}, ${row.severity}, first seen ${row.created_at}`,
    on: { click: () => resolve(row) } }, "Resolve");
}
