// The token: in this tab's session storage, and nowhere else.

const KEY = "pgvigil.token";

export function token() {
  return sessionStorage.getItem(KEY);
}

export function keep(text) {
  sessionStorage.setItem(KEY, text);
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

// A token as people paste it: with blanks, line breaks, quotes, or the word that precedes it in the header.
export function tidy(text) {
  return text.trim().replace(/^authorization:/i, "").trim().replace(/^bearer\s/i, "").replaceAll(/[\s"']/g, "");
}

// Milliseconds until it expires by its own word; none where it says nothing that can be read. Only the API judges it.
export function expires_in_ms(text) {
  try {
    const part = text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(part));
    return typeof exp === "number" ? exp * 1000 - Date.now() : null;
  } catch {
    return null;
  }
}
