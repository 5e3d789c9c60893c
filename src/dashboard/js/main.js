// Where it begins.
import { by_id } from "./dom.js";
import { take_from_address } from "./place.js";
import { token } from "./token.js";
import { redraw } from "./changed.js";
import { redraw_pages } from "./pages.js";
import { set_up_resolving } from "./resolve.js";
import { set_up_controls } from "./controls.js";
import { begin, every_second, forget_answers } from "./watch.js";
import { let_in, set_up_gate } from "./gate.js";

// First of all: a token has no business in an address.
const brought = take_from_address();

set_up_resolving();
set_up_controls((is_elsewhere) => {
  if (token() === null) return;
  if (is_elsewhere) forget_answers();
  begin();
});
by_id("refresh").addEventListener("click", begin);
addEventListener("hashchange", () => let_in(take_from_address()));
const redraw_all = () => [redraw, redraw_pages].forEach((each) => each());
let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (width !== 0 && contentRect.width !== width) redraw_all();
  width = contentRect.width;
}).observe(by_id("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw_all);
setInterval(every_second, 1000);
set_up_gate(brought);
