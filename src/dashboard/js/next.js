// What is next: the critical window that is open or comes next, and whether the database is ready for it.
import { by_id, h } from "./dom.js";
import { full_time, number, span, title } from "./format.js";
import { ago } from "./clock.js";
import { badge } from "./parts.js";
import { show } from "./section.js";

const VERDICTS = { go: "Go", at_risk: "At risk" };

// `windows` are those that are open or to come.
export function show_next(readiness, windows) {
  const later = windows.filter(({ id, is_open }) => !is_open && id !== readiness.window?.id).slice(0, 3);
  show("next", [readiness, later], make, { reasons: readiness.degraded ?? [] });
}

// The worst reason is told in full until somebody closes it.
function make([{ window, verdict, reasons, forecasts }, later]) {
  const is_first = by_id("next").querySelector("details") === null;
  return [
    h("div", { class: "ready", data: { level: verdict } },
      h("p", { class: "go" }, h("strong", {}, VERDICTS[verdict] ?? title(verdict))),
      window ? about(window) : h("p", {}, "No critical window is open or to come. This is how ready it would be now.")),
    reasons.length > 0
      ? [h("h3", {}, "Because of"), h("ul", { class: "reasons" }, reasons.map((each, place) => reason(each, place === 0 && is_first)))]
      : h("p", { class: "nothing" }, "Nothing stands against it."),
    forecasts?.length > 0
      ? h("details", { data: { key: "forecasts" } },
          h("summary", {}, `Forecasts (${forecasts.length})`),
          h("ul", { class: "plain" }, forecasts.map(forecast)))
      : null,
    later.length > 0
      ? h("details", { data: { key: "later" } },
          h("summary", {}, "Later windows"),
          h("ul", { class: "plain" }, later.map((each) => h("li", {}, h("strong", {}, each.label), " ", ago(each.starts_at), h("span", { class: "soft block" }, span(each.starts_at, each.ends_at))))))
      : null,
  ];
}

function about(window) {
  return h("p", {},
    h("strong", { class: "label" }, window.label), " ",
    window.is_open ? ["is open, ends ", ago(window.ends_at)] : ["starts ", ago(window.starts_at)],
    h("span", { class: "soft block" }, span(window.starts_at, window.ends_at)));
}

function reason({ severity, check_id, object, evidence, remedy: text }, is_open) {
  return h("li", {}, h("details", { class: "reason", open: is_open, data: { key: `reason ${check_id} ${object}` } },
    h("summary", {}, badge(severity), h("span", { class: "what" }, title(check_id)), h("span", { class: "object" }, object)),
    h("p", {}, evidence),
    text ? h("p", { class: "advice" }, text) : null));
}

function forecast({ subject, object, value_now, value_then, bound, crosses_at, evidence }) {
  return h("li", {}, h("strong", {}, title(subject)), object === "any" ? null : [" ", h("span", { class: "object" }, object)],
    value_then === null ? null : `: ${number(value_now)} now, ${number(value_then)} then, limit ${number(bound)}`,
    crosses_at ? [", crossed ", h("span", { title: full_time(new Date(crosses_at)) }, ago(crosses_at))] : null,
    h("p", { class: "soft" }, evidence));
}
