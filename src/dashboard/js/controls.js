// The controls of the place: time range, database, more rows.
import { by_id, h } from "./dom.js";
import { go, place } from "./place.js";

let shown = null;
let names = ["default"];

// Shows where the page is; `targets` are the databases there are, once they are known.
export function show_place(targets) {
  shown = place();
  names = targets ?? names;
  by_id("time-range").value = shown.range;
  by_id("details").checked = shown.details;
  const listed = names.includes(shown.target) ? names : [...names, shown.target];
  by_id("target").replaceChildren(...listed.map((name) => h("option", { value: name }, name)));
  by_id("target").value = shown.target;
}

// `arrive` is called at another place, and told whether it is another database.
export function set_up_controls(arrive) {
  const moved = () => {
    const [was, is] = [shown, place()];
    // Also for a section's anchor, which changes nothing.
    if (JSON.stringify(was) === JSON.stringify(is)) return;
    show_place();
    arrive(was !== null && was.target !== is.target);
  };
  const move = (changes) => {
    go(changes);
    moved();
  };
  by_id("time-range").addEventListener("change", (change) => move({ range: change.target.value }));
  by_id("target").addEventListener("change", (change) => move({ target: change.target.value }));
  by_id("details").addEventListener("change", (change) => move({ details: change.target.checked }));
  addEventListener("popstate", moved);
}
