// Who waits for whom: trees of sessions, the one that all wait for first.
import { h } from "./dom.js";
import { duration_ms } from "./format.js";
import { badge, code, nothing } from "./parts.js";
import { set_count, show } from "./section.js";

export function show_locks(rows, reasons) {
  show("locks", rows, make, { is_empty: rows.length === 0, reasons });
  set_count("locks", rows.filter((row) => !row.is_root).length);
}

function make(rows) {
  if (rows.length === 0) return [nothing("Nobody waits for a lock.")];
  const roots = new Map();
  for (const row of rows) {
    if (!roots.has(row.root_pid)) roots.set(row.root_pid, []);
    roots.get(row.root_pid).push(row);
  }
  return [h("ul", { class: "trees" }, [...roots.values()].map(tree))];
}

// Each session stands below one that it waits for; one whose blocker is not among them stands below the first.
function tree(rows) {
  const pids = new Set(rows.map((row) => row.pid));
  const root = rows.find((row) => row.is_root) ?? rows[0];
  const placed = new Set([root]);
  const below = (parent) => {
    const children = rows.filter((row) => !placed.has(row) &&
      (row.blocked_by.find((pid) => pids.has(pid)) ?? root.pid) === parent.pid);
    children.forEach((child) => placed.add(child));
    return children.length > 0 ? h("ul", {}, children.map((child) => session(child, below(child)))) : null;
  };
  const list = below(root);
  const others = rows.filter((row) => !placed.has(row));
  return session(root, [list, others.length > 0 ? h("ul", {}, others.map((row) => session(row, null))) : null]);
}

function session(row, children) {
  return h("li", {},
    h("div", { class: "session" },
      h("p", {},
        row.is_root ? badge("root", "Holds it") : badge("waits", ["waits ", duration_ms(row.waiting_ms)].join("")),
        " ", h("strong", {}, row.application_name || "unnamed"),
        h("span", { class: "soft" }, ` process ${row.pid}, ${row.state}, in its transaction for ${duration_ms(row.transaction_ms)}`),
        row.username ? h("span", { class: "soft" }, `, ${row.username}`) : null),
      row.query_preview ? h("p", {}, code(row.query_preview)) : null,
      row.wants ? h("p", { class: "soft" }, `Wants ${row.wants}`) : null,
      row.holds.length > 0 ? h("p", { class: "soft" }, `Holds ${row.holds.join(", ")}`) : null),
    children);
}
