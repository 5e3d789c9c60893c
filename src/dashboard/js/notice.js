// The one line above everything: what went wrong, where all of the page is concerned.
import { by_id, set_text } from "./dom.js";

export function notify(text) {
  const notice = by_id("notice");
  set_text(notice, text);
  notice.hidden = text === "";
}

// The API's words as a sentence.
export function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
