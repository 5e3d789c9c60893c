"""Prints the headline of one answer of GET /api/monitoring/performance, read from standard input.

Exits with 1, and says what is missing, as long as something that the demo planted is not in the answer.
"""

import json
import sys

UNPROTECTED = "guest_dietary_notes"


def clean(text) -> str:
    """One printable line: what a database holds must not steer the terminal it is shown on."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return words if len(words) <= 100 else words[:99] + "…"


def seconds(milliseconds) -> str:
    return f"{milliseconds / 1000:.1f} s"


def line(label: str, text: str) -> None:
    print(f"  {label:<15}{text}")


data = json.load(sys.stdin)["data"]
summary = data["summary"]
slow = data["slowQueries"]
blocked = max((q for q in slow if q.get("blocked_by")), key=lambda q: q["duration_ms"], default=None)
running = next((q for q in slow if not q.get("blocked_by") and "guests" in q["query_preview"]), None)
exposed = next((t for t in data["rlsStatus"] if t["tablename"] == UNPROTECTED), None)

missing = [
    name
    for name, found in {
        "a health score under 100": summary["health_score"] < 100,
        "the slow query": running,
        "the blocked session": blocked,
        "the unprotected table": exposed and exposed["security_risk_level"] == "HIGH_RISK",
    }.items()
    if not found
]
if missing:
    sys.exit(f"not in the answer: {', '.join(missing)}")

line("health", f"{summary['health_score']} of 100, {clean(summary['status'])}")
line("slow queries", f"{len(slow)}; one has been running for {seconds(running['duration_ms'])} in {clean(running['application_name'])}:")
line("", clean(running["query_preview"]))
holders = ", ".join(f"process {pid}" for pid in blocked["blocked_by"])
line("blocked", f"{clean(blocked['application_name'])} (process {blocked['pid']}) has waited {seconds(blocked['duration_ms'])} for {holders}")
line("unprotected", f"{clean(exposed['schemaname'])}.{exposed['tablename']}: row-level security {clean(exposed['rls_status']).lower()}, {exposed['security_risk_level']}")
