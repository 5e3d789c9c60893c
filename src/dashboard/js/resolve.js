// The dialog in which an event is resolved.
import { by_id, set_text } from "./dom.js";
import { full_time, title } from "./format.js";
import { ask } from "./api.js";

let event = null;
let target_query = null;
let done = null;

// Asks what was done; `then` is called once it is resolved.
export function ask_to_resolve(row, query, then) {
  [event, target_query, done] = [row, query, then];
  set_text(by_id("resolve-event"), `${title(row.event_type)}, ${row.severity}, first seen ${full_time(new Date(row.created_at))}`);
  by_id("resolve-notes").value = "";
  set_problem("");
  by_id("resolve").showModal();
  by_id("resolve-notes").focus();
}

function set_problem(text) {
  const problem = by_id("resolve-problem");
  set_text(problem, text);
  problem.hidden = text === "";
}

async function submit(submission) {
  // The dialog closes when the API has said yes.
  submission.preventDefault();
  const button = by_id("resolve-submit");
  if (button.disabled) return;
  button.disabled = true;
  set_problem("");
  const notes = by_id("resolve-notes").value.trim();
  try {
    await ask("performance", target_query, { action: "resolve_event", event_id: event.id, ...(notes && { resolution_notes: notes }) });
    by_id("resolve").close();
    // The button that opened it will be gone.
    by_id("events-heading").focus();
    done();
  } catch (refusal) {
    set_problem(`Not resolved: ${refusal.message}${refusal.wait_seconds ? `, try again in ${refusal.wait_seconds} s` : ""}.`);
  } finally {
    button.disabled = false;
  }
}

export function set_up_resolving() {
  by_id("resolve-form").addEventListener("submit", submit);
  by_id("resolve-cancel").addEventListener("click", () => by_id("resolve").close());
}
