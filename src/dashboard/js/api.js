// Asking the API, and what its errors mean here.
import { token } from "./token.js";

// An answer that is no success: status 0 where there was none.
export class Refusal extends Error {
  constructor(status, code, detail, wait_seconds) {
    super(detail);
    this.status = status;
    this.code = code;
    this.wait_seconds = wait_seconds;
  }

  // Whether another route would hear the same at this moment.
  get is_for_all() {
    return this.wait_seconds !== null || this.status === 0;
  }
}

// Without one of ours, an answer is a gateway's, and only its status is known.
const WORDS = {
  401: "the token is not accepted, or has expired",
  403: "access is refused",
  404: "there is no such route",
  429: "too many requests",
  503: "the function is not available",
  504: "the function did not answer in time",
};

// Longer than the API itself takes at most.
const PATIENCE_MS = 35000;

export async function ask(route, query, body) {
  const address = new URL(`api/monitoring/${route}`, document.baseURI);
  address.search = query ?? "";
  const headers = { authorization: `Bearer ${token()}`, accept: "application/json" };
  if (body) headers["content-type"] = "application/json";
  let response, text;
  try {
    response = await fetch(address, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await response.text();
  } catch {
    throw new Refusal(0, "unreachable", navigator.onLine === false ? "this device is offline" : "the function cannot be reached", null);
  }
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Told below.
  }
  if (response.ok && answer !== null) return answer;
  const wait = Number(response.headers.get("retry-after"));
  const detail = typeof answer?.detail === "string" ? answer.detail : WORDS[response.status] ?? `the answer cannot be read (status ${response.status})`;
  throw new Refusal(response.ok ? 0 : response.status, answer?.code ?? "unknown", detail, wait > 0 ? wait : null);
}
