// What the page looks at: kept in its address, so that it can be sent to somebody and found again.

const SECONDS = { "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000 };
const RANGES = Object.keys(SECONDS);

export function seconds_of(range) {
  return SECONDS[range];
}

export function place() {
  const query = new URLSearchParams(location.search);
  const range = query.get("time_range");
  return {
    range: RANGES.includes(range) ? range : RANGES[0],
    target: query.get("target") || "default",
    details: query.get("include_details") === "true",
  };
}

// The parameters of the API that the place stands for.
export function parameters({ range, target, details }) {
  const query = new URLSearchParams({ time_range: range });
  if (details) query.set("include_details", "true");
  if (target !== "default") query.set("target", target);
  return query;
}

export function go(changes) {
  const query = parameters({ ...place(), ...changes });
  history.pushState(null, "", `${location.pathname}?${query}${location.hash}`);
}

// What a sign-in left in the address: taken out of it before anything else happens.
export function take_from_address() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const query = new URLSearchParams(location.search);
  const token = fragment.get("access_token");
  const answer = query.has("state")
    ? { code: query.get("code"), state: query.get("state"), iss: query.get("iss"), error: query.get("error_description") ?? query.get("error") }
    : null;
  if (token !== null || answer) {
    for (const name of ["code", "state", "iss", "session_state", "scope", "error", "error_description", "error_uri"]) query.delete(name);
    const rest = query.toString();
    history.replaceState(null, "", location.pathname + (rest && `?${rest}`) + (token === null ? location.hash : ""));
  }
  return { token, answer };
}
