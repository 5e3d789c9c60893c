// The page: who looks at what, and what is asked for them.
import { by_id, h, set_text } from "./dom.js";
import { relative } from "./format.js";
import { now, set_server_time, tick } from "./clock.js";
import { go, parameters, place, take_from_address } from "./place.js";
import { expires_in_ms, forget as forget_token, keep, tidy, token } from "./token.js";
import { ask, Refusal } from "./api.js";
import { finish, leave_for } from "./issuer.js";
import { fail, forget } from "./section.js";
import { start, stop } from "./refresh.js";
import { ask_to_resolve, set_up_resolving } from "./resolve.js";
import { redraw, show_changed } from "./changed.js";
import { show_connections } from "./connections.js";
import { show_events } from "./events.js";
import { show_findings } from "./findings.js";
import { show_locks } from "./locks.js";
import { show_next } from "./next.js";
import { redraw_pages, show_pages } from "./pages.js";
import { show_rls } from "./rls.js";
import { show_slow } from "./slow.js";
import { show_statements } from "./statements.js";
import { show_tables } from "./tables.js";
import { show_verdict } from "./verdict.js";

// Sections that one GET of the performance route fills.
const OF_PERFORMANCE = ["verdict", "findings", "changed", "slow", "locks", "statements", "connections", "tables", "rls", "events"];
const SECTIONS = [...OF_PERFORMANCE, "next", "pages"];

// What changes slowly is asked for seldom.
const SLOW_MS = 300000;

// An answer this old is no answer any more: two refreshes were missed.
const STALE_MS = 90000;

const NO_WINDOWS = { past: [], coming: [] };
const NEVER = { at: 0, range: null };

let config = { oidc: null };
let session = null;
let answered_at = null;
let sampled_at = null;
let windows = NO_WINDOWS;
let windows_asked = NEVER;
let pages_asked = NEVER;
let expiry = null;

// What shows the last answer again, once the windows are known or others.
let last_trends = () => {};
let last_readiness = () => {};

function notify(text) {
  const notice = by_id("notice");
  set_text(notice, text);
  notice.hidden = text === "";
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

// Signing in and out ---------------------------------------------------------------------------------------------------

function sign_out(notice) {
  stop();
  clearTimeout(expiry);
  forget_token();
  session = null;
  forget_answers();
  if (by_id("resolve").open) by_id("resolve").close();
  for (const id of ["controls", "freshness", "watch"]) by_id(id).hidden = true;
  by_id("gate").hidden = false;
  document.title = "Sign in – pgvigil";
  notify(notice ?? "");
  by_id("token").value = "";
  by_id("token").focus();
}

function expire() {
  sign_out("Your token has expired: sign in again. You will be where you were.");
}

function sign_in(text) {
  keep(text);
  notify("");
  by_id("token").value = "";
  by_id("gate").hidden = true;
  for (const id of ["controls", "freshness", "watch"]) by_id(id).hidden = false;
  const left_ms = expires_in_ms(text);
  // Longer than a timer can wait, the API tells.
  if (left_ms !== null && left_ms < 2 ** 31) expiry = setTimeout(expire, Math.max(0, left_ms));
  show_place();
  return begin();
}

async function sign_in_by_issuer() {
  try {
    await leave_for(config.oidc);
  } catch (error) {
    notify(`Sign-in is not possible now: ${error.message}.`);
  }
}

// The place ------------------------------------------------------------------------------------------------------------

function show_place() {
  const { range, target, details } = place();
  by_id("time-range").value = range;
  by_id("details").checked = details;
  const names = session?.targets ?? ["default"];
  const listed = names.includes(target) ? names : [...names, target];
  by_id("target").replaceChildren(...listed.map((name) => h("option", { value: name }, name)));
  by_id("target").value = target;
}

function move(changes) {
  go(changes);
  arrive("target" in changes);
}

function arrive(is_elsewhere) {
  show_place();
  if (is_elsewhere) {
    forget_answers();
  }
  begin();
}

function forget_answers() {
  SECTIONS.forEach(forget);
  by_id("score-trend").replaceChildren();
  [answered_at, sampled_at, windows, windows_asked, pages_asked] = [null, null, NO_WINDOWS, NEVER, NEVER];
  last_trends = last_readiness = () => {};
}

// Asking ---------------------------------------------------------------------------------------------------------------

function begin() {
  const here = place();
  return start(() => load(here));
}

// Loads once. Answers what was refused, if anything was, for the next time to be chosen by it.
async function load(here) {
  by_id("watch").setAttribute("aria-busy", "true");
  const refusals = [];
  const attempt = async (sections, work) => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status === 401) return expired(error);
      refusals.push(error);
      sections.forEach((id) => fail(id, error.message));
    }
  };
  const query = parameters(here);
  await attempt([], async () => { if (session === null) session = (await ask("session")).data; show_place(); });
  if (token() !== null) await attempt(OF_PERFORMANCE, async () => show_performance(await ask("performance", query), here));
  if (token() !== null) await attempt(["next"], async () => show_readiness(await ask("readiness", only_target(query))));
  if (token() !== null) await attempt([], () => ask_windows(query, here));
  if (token() !== null) await attempt(["pages"], () => ask_pages(query, here));
  by_id("watch").removeAttribute("aria-busy");
  if (token() === null) return null;
  const worst = refusals.reduce((worst, each) => ((each.wait_seconds ?? 0) > (worst?.wait_seconds ?? -1) ? each : worst), null);
  notify(refusals.length > 0 ? sentence(refusals[0].message) : "");
  show_freshness();
  return worst;
}

function expired(refusal) {
  sign_out(/expired/.test(refusal.message) ? "Your token has expired: sign in again. You will be where you were." : sentence(refusal.message));
}

function only_target(query) {
  const target = query.get("target");
  return target ? new URLSearchParams({ target }) : "";
}

function show_performance({ data, metadata }, here) {
  set_server_time(metadata.timestamp);
  answered_at = now();
  sampled_at = data.summary?.metrics?.last_sample_at ?? null;
  const reasons = (section) => metadata.degraded.filter((spot) => spot.section === section).map((spot) => spot.reason);
  show_verdict(data.summary, reasons("summary"), data.trends);
  show_findings(data.summary, reasons("summary"));
  last_trends = () => show_changed(data.trends, [...windows.past, ...windows.coming.filter((window) => window.is_open)], data.recentEvents, here.range, reasons("trends"));
  last_trends();
  show_slow(data.slowQueries, reasons("slowQueries"));
  show_locks(data.locks, reasons("locks"));
  show_statements(data.statements, reasons("statements"));
  show_connections(data.connections, reasons("connections"));
  show_tables(data.tableHealth, reasons("tableHealth"));
  show_rls(data.rlsStatus, reasons("rlsStatus"));
  const resolve = session === null || session.may.includes("resolve") ? (row) => ask_to_resolve(row, only_target(parameters(here)), begin) : null;
  show_events(data.recentEvents, reasons("recentEvents"), resolve);
}

function show_readiness({ data }) {
  last_readiness = () => show_next(data, windows.coming);
  last_readiness();
}

async function ask_windows(query, { range }) {
  if (is_recent(windows_asked, range)) return;
  const wanted = new URLSearchParams({ time_range: range });
  if (query.has("target")) wanted.set("target", query.get("target"));
  const { data } = await ask("windows", wanted);
  windows_asked = { at: Date.now(), range };
  windows = { past: data.past, coming: data.windows };
  last_trends();
  last_readiness();
}

async function ask_pages(query, { range }) {
  if (is_recent(pages_asked, range)) return;
  const wanted = new URLSearchParams(query);
  wanted.delete("include_details");
  try {
    const { data } = await ask("lighthouse", wanted);
    show_whether_measured(true);
    show_pages(data, range);
  } catch (error) {
    if (error.status !== 404) throw error;
    show_whether_measured(false);
  }
  pages_asked = { at: Date.now(), range };
}

// A function without that route measures no pages.
function show_whether_measured(is_measured) {
  by_id("pages").hidden = !is_measured;
  document.querySelector('.jump a[href="#pages"]').parentElement.hidden = !is_measured;
}

function is_recent({ at, range }, wanted) {
  return range === wanted && Date.now() - at < SLOW_MS;
}

// The clock ------------------------------------------------------------------------------------------------------------

function show_freshness() {
  if (answered_at === null) return set_text(by_id("freshness"), "No answer yet");
  const sampled = sampled_at ? `, sampled ${relative(now() - Date.parse(sampled_at))}` : "";
  set_text(by_id("freshness"), `Answered ${relative(now() - answered_at)}${sampled}`);
}

function every_second() {
  if (document.hidden || token() === null) return;
  tick();
  show_freshness();
  if (answered_at !== null && now() - answered_at > STALE_MS) {
    for (const id of SECTIONS) if (["ready", "empty", "degraded"].includes(by_id(id).dataset.state)) fail(id, "it has not been refreshed since");
  }
}

// Start ----------------------------------------------------------------------------------------------------------------

// Wires everything and signs in, where there is a token.
export async function begin_page() {
  const arrived = take_from_address();
  set_up_resolving();
  by_id("sign-in").addEventListener("submit", (submission) => {
    submission.preventDefault();
    const text = tidy(by_id("token").value);
    if (text) sign_in(text);
  });
  by_id("sign-out").addEventListener("click", () => sign_out());
  by_id("refresh").addEventListener("click", begin);
  by_id("issuer-sign-in").addEventListener("click", sign_in_by_issuer);
  by_id("time-range").addEventListener("change", (change) => move({ range: change.target.value }));
  by_id("target").addEventListener("change", (change) => move({ target: change.target.value }));
  by_id("details").addEventListener("change", (change) => move({ details: change.target.checked }));
  addEventListener("popstate", () => token() !== null && arrive(true));
  new ResizeObserver(() => [redraw, redraw_pages].forEach((each) => each())).observe(by_id("watch"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [redraw, redraw_pages].forEach((each) => each(true)));
  setInterval(every_second, 1000);
  if (arrived.token) return sign_in(tidy(arrived.token));
  if (token() !== null && !arrived.answer) return sign_in(token());
  sign_out();
  try {
    const response = await fetch(new URL("dashboard/config.json", document.baseURI), { credentials: "omit" });
    config = await response.json();
  } catch {
    return notify("Whether there is an issuer to sign in with is not known; a token can be pasted.");
  }
  if (!config.oidc) return;
  by_id("issuer").hidden = false;
  set_text(by_id("issuer-sign-in"), `Sign in with ${new URL(config.oidc.issuer).host}`);
  if (!arrived.answer) return;
  try {
    await sign_in(await finish(arrived.answer, config.oidc));
  } catch (error) {
    notify(`Not signed in: ${error.message}.`);
  }
}

