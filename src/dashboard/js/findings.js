// What is wrong: findings as the summary orders them, each with its remedy.
import { h } from "./dom.js";
import { number, title } from "./format.js";
import { badge, nothing, remedy } from "./parts.js";
import { set_count, show } from "./section.js";

export function show_findings(summary, reasons) {
  const findings = summary?.findings ?? [];
  show("findings", findings, make, { is_empty: findings.length === 0, reasons });
  set_count("findings", findings.length);
}

function make(findings) {
  if (findings.length === 0) return [nothing("No check complains.")];
  return [h("ol", { class: "findings" }, findings.map(finding))];
}

function finding({ check_id, severity, object, value, threshold, detail, remediation, fingerprint }) {
  return h("li", { class: "finding", data: { level: severity } },
    h("h3", {}, badge(severity), " ", title(check_id)),
    h("p", { class: "object" }, object),
    h("p", {}, detail),
    value === null ? null : h("p", { class: "soft" }, `${number(value)}, ${severity} from ${number(threshold)} on`),
    remedy(remediation, fingerprint));
}
