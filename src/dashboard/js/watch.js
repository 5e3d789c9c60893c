// Watching: what is asked of the API, in which order, and which section shows it.
import { by_id, set_text } from "./dom.js";
import { relative } from "./format.js";
import { now, set_server_time, tick } from "./clock.js";
import { parameters, place } from "./place.js";
import { token } from "./token.js";
import { ask, Refusal } from "./api.js";
import { notify, sentence } from "./notice.js";
import { fail, forget } from "./section.js";
import { retry_in_ms, start, stop } from "./refresh.js";
import { ask_to_resolve } from "./resolve.js";
import { show_place } from "./controls.js";
import { show_changed } from "./changed.js";
import { show_connections } from "./connections.js";
import { show_events } from "./events.js";
import { show_findings } from "./findings.js";
import { show_locks } from "./locks.js";
import { show_next } from "./next.js";
import { show_pages } from "./pages.js";
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
const A_MOMENT_MS = 10000;

// An answer this old is no answer any more: two refreshes were missed.
const STALE_MS = 90000;

const NO_WINDOWS = { past: [], coming: [] };
const NEVER = { at: 0, range: null };

let turn = 0;
let session = null;
let answered_at = null;
let sampled_at = null;
let windows = NO_WINDOWS;
let windows_asked = NEVER;
let pages_asked = NEVER;
let readiness_asked_at = 0;

// What shows the last answer again, once windows and rights are known or others.
let last_trends = () => {};
let last_readiness = () => {};
let last_events = () => {};

// Who is told that the API lets nobody in by this token.
let not_let_in = () => {};

export function on_not_let_in(listener) {
  not_let_in = listener;
}

// Somebody moved on while an answer was on its way: it is nobody's any more.
class Outdated extends Error {}

// Asks for what the address says, now and from now on.
export function begin() {
  turn += 1;
  const [here, mine] = [place(), turn];
  const still = (value) => {
    if (mine !== turn) throw new Outdated();
    return value;
  };
  const get = (route, query) =>
    ask(route, query).then(still, (refusal) => {
      throw still(refusal);
    });
  // Between two sections the browser gets its turn: a slow phone is not to hang.
  const breathe = async () => still(await new Promise((done) => setTimeout(done)));
  return start(() => load(here, get, breathe));
}

// Loads once, one answer after the other: together they would wake several instances of the function. Answers what was
// refused, if anything was, for the next time to be chosen by it.
async function load(here, get, breathe) {
  const query = parameters(here);
  const steps = [
    [OF_PERFORMANCE, async () => show_performance(await get("performance", query), here, breathe)],
    [[], () => ask_session(get)],
    [["next"], () => ask_readiness(get, query)],
    [[], () => ask_windows(get, query, here)],
    [["pages"], () => ask_pages(get, query, here)],
  ];
  let refused = null;
  by_id("watch").setAttribute("aria-busy", "true");
  try {
    for (const [sections, step] of steps) {
      try {
        // Where one was told to wait, or reached nobody, the others would be too.
        if (refused?.is_for_all) throw refused;
        await step();
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        if (error.status === 401) {
          not_let_in(error);
          return null;
        }
        refused ??= error;
        notify(sentence(refused.message));
        sections.forEach((id) => fail(id, error.message));
        if (sections === OF_PERFORMANCE) last_trends = last_events = () => {};
        // What looks old now is not to be spared the next question.
        if (sections.includes("next")) readiness_asked_at = 0;
        if (sections.includes("pages")) pages_asked = NEVER;
      }
    }
  } catch (error) {
    if (error instanceof Outdated) return null;
    throw error;
  } finally {
    by_id("watch").removeAttribute("aria-busy");
  }
  if (refused === null) notify("");
  show_freshness();
  return refused;
}

async function ask_session(get) {
  if (session !== null) return;
  session = (await get("session")).data;
  show_place(session.targets);
  last_events();
}

// Nobody watches any more: what comes still is nobody's.
export function end() {
  stop();
  turn += 1;
  session = null;
  forget_answers();
}

// Another database is another page.
export function forget_answers() {
  SECTIONS.forEach(forget);
  by_id("score-trend").replaceChildren();
  [answered_at, sampled_at, windows, windows_asked, pages_asked, readiness_asked_at] = [null, null, NO_WINDOWS, NEVER, NEVER, 0];
  last_trends = last_readiness = last_events = () => {};
}

function only_target(query) {
  const target = query.get("target");
  return target ? new URLSearchParams({ target }) : "";
}

async function show_performance({ data, metadata }, here, breathe) {
  set_server_time(metadata.timestamp);
  answered_at = now();
  sampled_at = data.summary?.metrics?.last_sample_at ?? null;
  const reasons = (section) => metadata.degraded.filter((spot) => spot.section === section).map((spot) => spot.reason);
  const resolve = (row) => ask_to_resolve(row, only_target(parameters(here)), begin);
  last_events = () => show_events(data.recentEvents, reasons("recentEvents"), session?.may.includes("resolve") ? resolve : null);
  last_trends = () => show_changed(data.trends, [...windows.past, ...windows.coming.filter((window) => window.is_open)], data.recentEvents, here.range, reasons("trends"));
  const shows = {
    verdict: () => show_verdict(data.summary, reasons("summary"), data.trends),
    findings: () => show_findings(data.summary, reasons("summary")),
    changed: last_trends,
    slow: () => show_slow(data.slowQueries, reasons("slowQueries")),
    locks: () => show_locks(data.locks, reasons("locks")),
    statements: () => show_statements(data.statements, reasons("statements")),
    connections: () => show_connections(data.connections, reasons("connections")),
    tables: () => show_tables(data.tableHealth, reasons("tableHealth")),
    rls: () => show_rls(data.rlsStatus, reasons("rlsStatus")),
    events: last_events,
  };
  for (const [id, show] of Object.entries(shows)) {
    show_or_fail(id, show);
    await breathe();
  }
}

// An answer that one section cannot show costs that section alone.
function show_or_fail(id, show) {
  try {
    show();
  } catch (error) {
    console.error(error);
    fail(id, "this page cannot show it");
  }
}

// Another time range asks for the rest anew, but this is the same for all of them.
async function ask_readiness(get, query) {
  if (Date.now() - readiness_asked_at < A_MOMENT_MS) return;
  const { data } = await get("readiness", only_target(query));
  readiness_asked_at = Date.now();
  last_readiness = () => show_or_fail("next", () => show_next(data, windows.coming));
  last_readiness();
}

async function ask_windows(get, query, { range }) {
  if (is_recent(windows_asked, range)) return;
  const wanted = new URLSearchParams({ time_range: range });
  if (query.has("target")) wanted.set("target", query.get("target"));
  const { data } = await get("windows", wanted);
  windows_asked = { at: Date.now(), range };
  windows = { past: data.past, coming: data.windows };
  show_or_fail("changed", last_trends);
  last_readiness();
}

async function ask_pages(get, query, { range }) {
  if (is_recent(pages_asked, range)) return;
  const wanted = new URLSearchParams(query);
  wanted.delete("include_details");
  try {
    const { data } = await get("lighthouse", wanted);
    show_whether_measured(true);
    show_or_fail("pages", () => show_pages(data, range));
  } catch (error) {
    if (!(error instanceof Refusal) || error.status !== 404) throw error;
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

function show_freshness() {
  const retry_ms = retry_in_ms();
  const again = retry_ms === null ? "" : `, asking again ${relative(-retry_ms)}`;
  if (answered_at === null) return set_text(by_id("freshness"), `No answer yet${again}`);
  const sampled = sampled_at ? `, sampled ${relative(now() - Date.parse(sampled_at))}` : "";
  set_text(by_id("freshness"), `Answered ${relative(now() - answered_at)}${sampled}${again}`);
}

// Keeps what is told of time up to date, and what was not refreshed from looking fresh.
export function every_second() {
  if (document.hidden || token() === null) return;
  tick();
  show_freshness();
  if (answered_at !== null && now() - answered_at > STALE_MS) {
    for (const id of SECTIONS) if (["ready", "empty", "degraded"].includes(by_id(id).dataset.state)) fail(id, "it has not been refreshed since");
  }
}
