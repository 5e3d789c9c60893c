// A section of the page: its state, and why it is not as it should be.
//
// loading, ready, empty (asked, and there is nothing), degraded (not all of it could be seen), stale (an older answer is still
// shown), error (there never was an answer).
import { by_id, is_being_read, replace, set_text } from "./dom.js";

function parts(id) {
  const section = by_id(id);
  return { section, note: section.querySelector(".note"), content: section.querySelector(".content") };
}

function set_note(note, text) {
  set_text(note, text);
  note.hidden = text === "";
}

// Shows an answer. `make` makes its elements, and is not called again while `data` is the same or somebody copies from it.
export function show(id, data, make, { is_empty = false, reasons = [] } = {}) {
  const { section, note, content } = parts(id);
  // What could not be seen must not read as if there were nothing.
  const is_unknown = is_empty && reasons.length > 0;
  const text = JSON.stringify([is_unknown, data]);
  if (section.shown !== text && !is_being_read(content)) {
    replace(content, is_unknown ? [] : make(data));
    section.shown = text;
  }
  set_note(note, reasons.length > 0 ? `Not all of it could be seen: ${reasons.join("; ")}` : "");
  section.dataset.state = reasons.length > 0 ? "degraded" : is_empty ? "empty" : "ready";
}

// An answer did not come: what was shown goes on being shown, as what it is.
export function fail(id, reason) {
  const { section, note, content } = parts(id);
  const had_one = section.shown !== undefined;
  section.dataset.state = had_one ? "stale" : "error";
  if (!had_one) content.replaceChildren();
  set_note(note, had_one ? `An older answer: ${reason}` : `No answer: ${reason}`);
}

// Another database, or nobody: what was shown is not of it.
export function forget(id) {
  const { section, note, content } = parts(id);
  delete section.shown;
  content.replaceChildren();
  set_note(note, "");
  section.dataset.state = "loading";
}

// The number beside the section's name in the navigation.
export function set_count(id, count) {
  const element = document.querySelector(`.jump a[href="#${id}"] .count`);
  if (element) set_text(element, count > 0 ? String(count) : "");
}
