// Time as the server counts it, and what on the page has to keep up with it.
import { h, set_text } from "./dom.js";
import { duration_ms, full_time, relative, UNKNOWN } from "./format.js";

let ahead_ms = 0;

// The server said what time it is: a laptop's clock may be anything.
export function set_server_time(timestamp) {
  const server = Date.parse(timestamp);
  if (!Number.isNaN(server)) ahead_ms = server - Date.now();
}

export function now() {
  return Date.now() + ahead_ms;
}

// A moment, told as how long ago it was; the exact time is in its title.
export function ago(timestamp) {
  const at = Date.parse(timestamp);
  if (Number.isNaN(at)) return h("span", {}, UNKNOWN);
  return h("time", { datetime: new Date(at).toISOString(), title: full_time(at), data: { ago: at } }, relative(now() - at));
}

// The same as how long it has lasted, in minutes and more.
export function lasting(timestamp) {
  const element = ago(timestamp);
  element.dataset.lasting = "";
  set_text(element, told(element));
  return element;
}

function told({ dataset }) {
  if (dataset.ago === undefined) return UNKNOWN;
  const ms = now() - Number(dataset.ago);
  return dataset.lasting === undefined ? relative(ms) : `for ${duration_ms(Math.max(1, Math.floor(ms / 60000)) * 60000)}`;
}

// Brings every such moment up to date.
export function tick() {
  for (const element of document.querySelectorAll("[data-ago]")) {
    set_text(element, told(element));
  }
}
