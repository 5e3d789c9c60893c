// Tables that are read as tables on a desk and as cards on a phone. The roles are written out because a table whose rows are laid
// out as blocks is none any more to a screen reader.
import { h } from "./dom.js";

// On a phone only the first rows are shown until somebody wants all; who did is remembered by the table's key.
const AT_FIRST = 5;
const shown_whole = new Set();

// Columns: { name, value(row), class, head }; `head` marks the one that names the row.
export function table(caption, columns, rows, key) {
  const head = columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.class }, column.name));
  const body = rows.map((row, place) =>
    h("tr", { role: "row", class: place >= AT_FIRST ? "further" : null }, columns.map((column) => {
      const properties = { class: column.class, data: { label: column.name } };
      if (column.head) return h("th", { ...properties, scope: "row", role: "rowheader" }, column.value(row));
      return h("td", { ...properties, role: "cell" }, column.value(row));
    })));
  const whole = h("table", { role: "table", class: shown_whole.has(key) ? "whole" : null },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, body));
  const more = rows.length > AT_FIRST && !shown_whole.has(key)
    ? h("button", { type: "button", class: "small more", on: { click: (click) => show_whole(key, whole, click.target) } }, `Show all ${rows.length}`)
    : null;
  return [h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, data: { key } }, whole), more];
}

function show_whole(key, whole, button) {
  shown_whole.add(key);
  whole.className = "whole";
  whole.parentElement.focus({ preventScroll: true });
  button.remove();
}
