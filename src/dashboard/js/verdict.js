// Is it fine: score, status, since when.
import { by_id, h, set_text } from "./dom.js";
import { count, duration_ms, percent } from "./format.js";
import { lasting } from "./clock.js";
import { fact, facts } from "./parts.js";
import { show } from "./section.js";

// `trends` are the points of the time range, each with its status in the database's words.
export function show_verdict(summary, reasons, trends) {
  const has_score = typeof summary?.health_score === "number";
  show("verdict", [summary, since(summary?.status, trends)], make, { is_empty: !has_score, reasons: [...reasons, ...(summary?.degraded ?? [])] });
  const spoken = has_score ? `Health ${summary.health_score} of 100, ${summary.status}. ${summary.metrics.findings} findings.` : "Health is not known.";
  set_text(by_id("spoken"), spoken);
  document.title = has_score ? `${summary.health_score} ${summary.status} – pgvigil` : "pgvigil";
}

// Since when the samples say what the summary says: the first of the last ones that do. `is_whole`: all of them do.
function since(status, trends) {
  let first = trends.length;
  while (first > 0 && trends[first - 1].status === status) first -= 1;
  return first < trends.length ? { at: trends[first].at, is_whole: first === 0 } : null;
}

function make([summary, since]) {
  if (typeof summary?.health_score !== "number") return [h("p", { class: "nothing" }, "The score is not known.")];
  const metrics = summary.metrics;
  const bar = h("div", { class: "gauge", "aria-hidden": "true" }, h("span"));
  bar.firstChild.style.setProperty("--share", summary.health_score / 100);
  return [
    h("div", { class: "score", data: { level: summary.status } },
      h("p", { class: "number" }, h("strong", {}, summary.health_score), h("span", { class: "soft" }, " of 100")),
      h("p", { class: "status" }, h("strong", {}, summary.status), since ? [lasting(since.at), since.is_whole ? " or longer" : ""] : "just now"),
      bar),
    facts(
      fact("Findings", count(metrics.findings)),
      fact("Open events", [count(metrics.unresolved_events), metrics.critical_events > 0 ? h("small", {}, `${count(metrics.critical_events)} critical`) : null]),
      fact("Slow now", count(metrics.slow_queries)),
      fact("Blocked", count(metrics.blocked_sessions)),
      fact("Connections", [percent(metrics.connection_utilization_percent), h("small", {}, `${count(metrics.total_connections)} open`)]),
      fact("Longest transaction", duration_ms(metrics.longest_transaction_ms)),
      fact("High-risk tables", count(metrics.high_risk_tables)),
      fact("Need vacuum", count(metrics.tables_needing_vacuum))),
  ];
}
