// Numbers, sizes and times as people read them. A value that is null is not known, and says so.

export const UNKNOWN = "–";

// Made when something is formatted first: a phone takes a while over it, and who has to sign in sees no number yet.
function once(make) {
  let made = null;
  return { format: (value) => (made ??= make()).format(value) };
}

const whole = once(() => new Intl.NumberFormat("en", { maximumFractionDigits: 0 }));
const tenths = once(() => new Intl.NumberFormat("en", { maximumFractionDigits: 1 }));
const compact = once(() => new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }));
const absolute = once(() => new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" }));
const clock = once(() => new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" }));
const day = once(() => new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" }));
const date = once(() => new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" }));

function known(format) {
  return (value) => (value === null || value === undefined || Number.isNaN(Number(value)) ? UNKNOWN : format(Number(value)));
}

export const count = known((value) => (Math.abs(value) < 1000000 ? whole.format(value) : compact.format(value)));
export const number = known((value) => (Math.abs(value) < 100 ? tenths.format(value) : count(value)));
export const percent = known((value) => `${tenths.format(value)} %`);

export const bytes = known((value) => {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && Math.abs(value) < 100 ? tenths.format(value) : whole.format(value)} ${units[unit]}`;
});

// A length of time in its two largest units.
export const duration_ms = known((value) => {
  if (value < 10) return `${tenths.format(value)} ms`;
  if (value < 1000) return `${whole.format(value)} ms`;
  if (value < 60000) return `${tenths.format(value / 1000)} s`;
  const parts = [];
  let rest = Math.round(value / 1000);
  for (const [seconds, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const amount = Math.floor(rest / seconds);
    if (amount > 0 || parts.length > 0) parts.push(amount > 0 ? `${amount} ${name}` : "");
    rest -= amount * seconds;
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(" ");
});

// The same in one unit, for the side of a chart.
export const short_ms = known((value) => {
  const [size, unit] = [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"], [1, "ms"]].find(([size]) => value >= size) ?? [1, "ms"];
  return `${tenths.format(value / size)} ${unit}`;
});

export function per_second(format) {
  return (value) => `${format(value)}/s`;
}

export function time_of_day(date) {
  return clock.format(date);
}

export function day_of(moment) {
  return date.format(moment);
}

export function full_time(moment) {
  return absolute.format(moment);
}

// From when to when, with the day said once where it is one day.
export function span(from, to) {
  const [first, last] = [new Date(from), new Date(to)];
  const end = day.format(first) === day.format(last) ? clock.format(last) : `${day.format(last)} ${clock.format(last)}`;
  return `${day.format(first)} ${clock.format(first)} – ${end}`;
}

// How long ago, or in how long.
export function relative(ms) {
  const size = Math.abs(ms);
  if (size < 1500) return "now";
  const words = duration_ms(size < 60000 ? Math.round(size / 1000) * 1000 : size < 3600000 ? Math.floor(size / 60000) * 60000 : size);
  return ms > 0 ? `${words} ago` : `in ${words}`;
}

const ABBREVIATIONS = /\b(rls|wal|id|cpu|io|lcp|cls|tbt|fcp|inp|ttfb|seo)\b/g;

// A word of a database's as a title: slow_query is Slow query.
export function title(word) {
  const text = String(word ?? "").toLowerCase().replaceAll(/[_-]/g, " ").replaceAll(ABBREVIATIONS, (short) => short.toUpperCase());
  return text.charAt(0).toUpperCase() + text.slice(1);
}
