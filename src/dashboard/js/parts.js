// Small things that several sections are made of.
import { h } from "./dom.js";
import { title } from "./format.js";

// A severity or risk as the database words it; its look follows from the word, and its meaning from nobody here.
export function badge(word, text) {
  return h("span", { class: "badge", data: { level: String(word).toLowerCase() } }, text ?? title(word));
}

// A statement, an object, a command: never wrapped into something else.
export function code(text) {
  return h("code", {}, text ?? "");
}

export function nothing(text) {
  return h("p", { class: "nothing" }, text);
}

export function fact(name, value, properties) {
  return h("div", { class: "fact", ...properties }, h("dt", {}, name), h("dd", {}, value));
}

export function facts(...list) {
  return h("dl", { class: "facts" }, list);
}

// What to do about something: one click away, and one more to copy it.
export function remedy(text, key) {
  if (!text) return null;
  const copied = h("span", { class: "soft", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      copied.textContent = "Copied";
    } catch {
      copied.textContent = "Select it to copy";
    }
  };
  return h("details", { class: "remedy", data: { key: `remedy ${key}` } },
    h("summary", {}, "Remedy"),
    h("p", {}, text),
    h("p", {}, h("button", { type: "button", class: "small", on: { click: copy } }, "Copy"), " ", copied));
}
