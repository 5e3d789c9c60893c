// Pages as Lighthouse and browsers measured them, beside their budgets.
import { show } from "./section.js";
import { nothing } from "./parts.js";

export function show_pages({ budgets, builds, vitals }) {
  show("pages", { budgets, builds, vitals }, () => [nothing("No page was measured.")], { is_empty: builds.length === 0 && vitals.length === 0 });
}
