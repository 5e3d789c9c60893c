// Tables that are read as tables on a desk and as cards on a phone. The roles are written out because a table whose rows are laid
// out as blocks is none any more to a screen reader.
import { h } from "./dom.js";

// Columns: { name, value(row), class, head }; `head` marks the one that names the row.
export function table(caption, columns, rows, key) {
  const head = columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.class }, column.name));
  const body = rows.map((row) =>
    h("tr", { role: "row", class: row.row_class }, columns.map((column) => {
      const properties = { class: column.class, data: { label: column.name } };
      if (column.head) return h("th", { ...properties, scope: "row", role: "rowheader" }, column.value(row));
      return h("td", { ...properties, role: "cell" }, column.value(row));
    })));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, data: { key } },
    h("table", { role: "table" },
      h("caption", {}, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, body)));
}
