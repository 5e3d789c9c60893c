// Sign-in at an OpenID Connect issuer, where one is configured: authorization code with PKCE (RFC 7636), no secret.

const KEY = "pgvigil.sign-in";

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

// The page without place or answer: what is registered with the issuer.
function redirect_uri() {
  return location.origin + location.pathname;
}

function is_same(issuer, other) {
  return String(issuer).replace(/\/$/, "") === String(other).replace(/\/$/, "");
}

async function discover(issuer) {
  const response = await fetch(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`, { credentials: "omit" });
  if (!response.ok) throw new Error(`the issuer's description answers ${response.status}`);
  const found = await response.json();
  // OpenID Connect Discovery, section 4.3: it must speak of itself.
  if (!is_same(found.issuer, issuer)) throw new Error("the issuer's description is another issuer's");
  return found;
}

// Leaves for the issuer; where the person was is kept for the return.
export async function leave_for({ issuer, clientId, scope }) {
  const { authorization_endpoint } = await discover(issuer);
  const [state, verifier] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(KEY, JSON.stringify({ state, verifier, place: location.search + location.hash }));
  const address = new URL(authorization_endpoint);
  const query = {
    response_type: "code",
    client_id: clientId,
    redirect_uri: redirect_uri(),
    scope,
    state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  location.assign(address);
}

function begun() {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
}

// Whether this tab has asked for it: anybody can make a link that looks like an answer.
export function is_awaited(answer) {
  return answer.state === begun()?.state;
}

// Makes a token of the answer that the issuer sent back with the person.
export async function finish(answer, { issuer, clientId }) {
  const kept = is_awaited(answer) ? begun() : null;
  sessionStorage.removeItem(KEY);
  if (!kept) throw new Error("this sign-in was not begun in this tab; begin again");
  history.replaceState(null, "", location.pathname + kept.place);
  // RFC 9207, section 2.4: one that says who it is must be the one that was asked.
  if (answer.iss !== null && !is_same(answer.iss, issuer)) throw new Error("the answer is another issuer's");
  if (!answer.code) throw new Error(answer.error ?? "the issuer sent no code");
  const { token_endpoint } = await discover(issuer);
  const response = await fetch(token_endpoint, {
    method: "POST",
    credentials: "omit",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: answer.code,
      redirect_uri: redirect_uri(),
      client_id: clientId,
      code_verifier: kept.verifier,
    }),
  });
  const tokens = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(tokens.error_description ?? tokens.error ?? `the issuer answers ${response.status}`);
  // The API verifies signatures: an access token that is no JWT is for the issuer alone.
  const is_jwt = (text) => typeof text === "string" && text.split(".").length === 3;
  const found = [tokens.access_token, tokens.id_token].find(is_jwt);
  if (!found) throw new Error("the issuer sent no token that the API can verify");
  return found;
}

