// Signing in and out.
import { by_id, set_text } from "./dom.js";
import { expires_in_ms, forget as forget_token, keep, tidy, token } from "./token.js";
import { finish, is_awaited, leave_for } from "./issuer.js";
import { notify, sentence } from "./notice.js";
import { show_place } from "./controls.js";
import { begin, end, on_not_let_in } from "./watch.js";

const EXPIRED = "Your token has expired: sign in again. You will be where you were.";

// Longer than a timer can wait, only the API tells.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

let expiry = null;
let oidc = null;

function show_gate(is_shown) {
  by_id("gate").hidden = !is_shown;
  for (const id of ["controls", "freshness", "watch"]) by_id(id).hidden = is_shown;
  by_id("token").value = "";
}

function sign_in(text) {
  end();
  clearTimeout(expiry);
  keep(text);
  notify("");
  show_gate(false);
  const left_ms = expires_in_ms(text);
  if (left_ms !== null && left_ms <= LONGEST_TIMER_MS) expiry = setTimeout(() => sign_out(EXPIRED), Math.max(0, left_ms));
  show_place();
  begin();
}

function sign_out(notice) {
  end();
  clearTimeout(expiry);
  forget_token();
  if (by_id("resolve").open) by_id("resolve").close();
  show_gate(true);
  document.title = "Sign in – pgvigil";
  set_text(by_id("spoken"), "");
  notify(notice ?? "");
  by_id("token").focus();
  offer_issuer();
}

// Where an issuer is configured, the page may be signed in to there as well.
async function offer_issuer() {
  if (oidc !== null) return;
  try {
    const response = await fetch(new URL("dashboard/config.json", document.baseURI), { credentials: "omit" });
    ({ oidc } = await response.json());
  } catch {
    if (by_id("notice").hidden) notify("Whether there is an issuer to sign in with is not known; a token can be pasted.");
    return;
  }
  if (oidc === null) return;
  set_text(by_id("issuer-sign-in"), `Sign in with ${new URL(oidc.issuer).host}`);
  by_id("issuer").hidden = false;
}

async function sign_in_by_issuer() {
  try {
    await leave_for(oidc);
  } catch (error) {
    notify(`Sign-in is not possible now: ${error.message}.`);
  }
}

// Somebody comes back from the issuer.
async function come_back(answer) {
  sign_out();
  await offer_issuer();
  try {
    if (oidc === null) throw new Error("no issuer is configured");
    sign_in(await finish(answer, oidc));
  } catch (error) {
    notify(`Not signed in: ${error.message}.`);
  }
}

// Wires the gate, and goes through it with what the address brought, or with what this tab has.
export function set_up_gate({ token: brought, answer }) {
  on_not_let_in((refusal) => sign_out(/expired/.test(refusal.message) ? EXPIRED : sentence(refusal.message)));
  by_id("sign-in").addEventListener("submit", (submission) => {
    submission.preventDefault();
    const text = tidy(by_id("token").value);
    if (text) sign_in(text);
  });
  by_id("sign-out").addEventListener("click", () => sign_out());
  by_id("issuer-sign-in").addEventListener("click", sign_in_by_issuer);
  if (brought) sign_in(tidy(brought));
  else if (answer && (token() === null || is_awaited(answer))) come_back(answer);
  else if (token() !== null) sign_in(token());
  else sign_out();
}

// A link with a token that is opened in this tab loads nothing.
export function let_in({ token: brought }) {
  if (brought) sign_in(tidy(brought));
}
