// One chart: lines over time, windows shaded, gaps left as gaps, events marked. uPlot draws; what it shows is told in words as well.
import { by_id, h, set_text } from "./dom.js";
import { day_of, full_time, time_of_day, UNKNOWN } from "./format.js";

const HEIGHT = 132;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const LINES = ["--line-1", "--line-2", "--line-3"];

// Samples come at the same distance: a longer one is a gap, and a point without a value is put there.
export function with_gaps(points) {
  const times = points.map((point) => Date.parse(point.at) / 1000);
  let step = Infinity;
  for (let place = 1; place < times.length; place += 1) step = Math.min(step, times[place] - times[place - 1]);
  const filled = [];
  points.forEach((point, place) => {
    if (place > 0 && times[place] - times[place - 1] > step * 1.5) filled.push([times[place - 1] + step, null]);
    filled.push([times[place], point]);
  });
  return { times: filled.map(([time]) => time), points: filled.map(([, point]) => point), step: Number.isFinite(step) ? step : 60 };
}

// The stretches without a sample, the ends of the range included. What comes when it comes has no step, and no gaps.
function holes(times, points, step, from, to) {
  const found = [];
  if (step === null) return found;
  let last = from;
  points.forEach((point, place) => {
    if (point === null) return;
    if (times[place] - last > step * 1.5) found.push([last, times[place]]);
    last = times[place] + step;
  });
  if (to - last > step * 2.5) found.push([last, to]);
  return found;
}

// Hatched: what is not known must not look like something that is.
function hatch(fill) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const context = tile.getContext("2d");
  context.strokeStyle = fill;
  context.lineWidth = 1;
  for (const shift of [-8, 0, 8]) {
    context.beginPath();
    context.moveTo(shift, 8);
    context.lineTo(shift + 8, 0);
    context.stroke();
  }
  return context.createPattern(tile, "repeat");
}

function shade(plot, from, to, fill) {
  const left = Math.max(plot.valToPos(from, "x", true), plot.bbox.left);
  const right = Math.min(plot.valToPos(to, "x", true), plot.bbox.left + plot.bbox.width);
  if (right <= left) return;
  plot.ctx.fillStyle = fill;
  plot.ctx.fillRect(left, plot.bbox.top, Math.max(right - left, 1), plot.bbox.height);
}

// `data`: { times, points, step, from, to, windows: [[from, to]], events: [{ at, severity }] }; `what`: { title, series: [[name,
// key]], format, min, max }.
export function chart(what, data) {
  const series = what.series.filter(([, key]) => data.points.some((point) => point?.[key] !== null && point?.[key] !== undefined));
  const values = series.map(([, key]) => line_of(data, key));
  const readings = series.map(() => h("span", { class: "reading" }));
  const moment = h("span", { class: "soft moment" });
  const read = (place) => {
    series.forEach(([name], line) => {
      // What is measured seldom is read where it was measured last.
      let at = place;
      while (at > 0 && values[line][at] === undefined) at -= 1;
      set_text(readings[line], `${series.length > 1 ? `${name} ` : ""}${is_known(values[line][at]) ? what.format(values[line][at]) : UNKNOWN}`);
    });
    set_text(moment, place === data.times.length - 1 ? "" : time_of_day(new Date(data.times[place] * 1000)));
  };
  const holder = h("div", { class: "plot", "aria-hidden": "true" });
  const figure = h("figure", { class: "chart" },
    h("figcaption", {}, h("strong", {}, what.title), " ",
      series.map(([name], line) => [h("span", { class: "key", data: { line: line + 1 } }), readings[line], " "]), moment,
      h("span", { class: "unseen" }, series.map(([name], line) => summary(name, values[line], data.times, what.format)).join(" "))),
    holder);
  read(data.times.length - 1);
  figure.draw = () => draw(holder, what, data, series, values, read);
  return figure;
}

function is_known(value) {
  return value !== null && value !== undefined;
}

// What is measured with every tenth sample only is a line all the same: undefined is spanned, null is a gap.
const SPANNED_SECONDS = 3600;

function line_of({ times, points }, key) {
  const values = points.map((point) => point?.[key] ?? null);
  let last = null;
  values.forEach((value, place) => {
    if (value === null) {
      if (points[place] === null) last = null;
      return;
    }
    if (last !== null && times[place] - times[last] <= SPANNED_SECONDS) values.fill(undefined, last + 1, place);
    last = place;
  });
  if (last !== null && times.at(-1) - times[last] <= SPANNED_SECONDS && !points.slice(last).includes(null)) values.fill(undefined, last + 1);
  return values;
}

// The same in words.
function summary(name, values, times, format) {
  const known = values.map((value, place) => [value, times[place]]).filter(([value]) => is_known(value));
  if (known.length === 0) return "";
  const [highest, at] = known.reduce((best, each) => (each[0] > best[0] ? each : best));
  const lowest = known.reduce((best, each) => (each[0] < best[0] ? each : best))[0];
  return `${name}: between ${format(lowest)} and ${format(highest)}, highest at ${full_time(new Date(at * 1000))}, last ${format(known.at(-1)[0])}.`;
}

function draw(holder, what, data, series, values, read) {
  const grid = { stroke: colour("--grid"), width: 1 };
  const text = { stroke: colour("--soft"), font: "11px system-ui, sans-serif", grid, ticks: { ...grid, size: 4 } };
  const before = (plot) => {
    for (const [from, to] of data.windows) shade(plot, from, to, colour("--window"));
    for (const [from, to] of holes(data.times, data.points, data.step, data.from, data.to)) shade(plot, from, to, hatch(colour("--hole")));
  };
  const after = (plot) => {
    for (const { at, severity } of data.events) {
      const x = plot.valToPos(at, "x", true);
      if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
      const size = 4 * devicePixelRatio;
      plot.ctx.fillStyle = colour(`--${severity}`) || colour("--soft");
      plot.ctx.beginPath();
      plot.ctx.moveTo(x - size, plot.bbox.top);
      plot.ctx.lineTo(x + size, plot.bbox.top);
      plot.ctx.lineTo(x, plot.bbox.top + size * 1.6);
      plot.ctx.fill();
    }
  };
  const plot = new uPlot({
    width: Math.max(holder.clientWidth, 120),
    height: HEIGHT,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "trends" }, y: false, points: { size: 5 }, drag: { setScale: false, x: false } },
    scales: {
      x: { time: true, range: [data.from, data.to] },
      y: { range: (_, low, high) => [what.min ?? Math.min(0, low ?? 0), what.max ?? (high > 0 ? high * 1.1 : 1)] },
    },
    axes: [
      { ...text, size: 26, space: 60, values: (_, splits, __, ___, step) => splits.map((split) => label(split, step)) },
      { ...text, size: 58, space: 34, values: (_, splits) => splits.map(what.axis ?? what.format) },
    ],
    series: [{}, ...series.map((_, line) => ({ stroke: colour(LINES[line]), width: 1.5, spanGaps: false, points: { show: values[line].filter(is_known).length < 12, size: 4 } }))],
    hooks: { drawClear: [before], draw: [after], setCursor: [({ cursor }) => read(cursor.idx ?? data.times.length - 1)] },
  }, [data.times, ...values], holder);
  return plot;
}

function label(seconds, step) {
  const date = new Date(seconds * 1000);
  return step >= 86400 || (date.getHours() === 0 && date.getMinutes() === 0) ? day_of(date) : time_of_day(date);
}

// When the browser has nothing else to do, or has had something else for too long; one that cannot say so gets a little time.
const when_idle = window.requestIdleCallback ? (work) => requestIdleCallback(work, { timeout: 500 }) : (work) => setTimeout(work, 50);

let library = null;

// uPlot comes with the first chart, since nobody who signs in needs it. The policy lets no script's address be made of text: the
// markup holds the element.
function load_library() {
  library ??= new Promise((done, failed) => {
    const script = document.importNode(by_id("uplot").content, true).firstElementChild;
    script.addEventListener("load", done);
    script.addEventListener("error", failed);
    document.head.append(script);
  });
  return library;
}

// Charts that are drawn once they are near the screen, one at a time, and again when there is more or less room or the colours
// change.
export function drawn() {
  let plots = new Map();
  let is_at_it = false;
  const near = new Set();
  const draw_next = async () => {
    const next = [...near].find((figure) => plots.get(figure) === null);
    if (next === undefined || is_at_it) return;
    is_at_it = true;
    try {
      await load_library();
    } catch {
      // Each chart is told in words as well; the next answer tries again.
      library = null;
      is_at_it = false;
      return;
    }
    when_idle(() => {
      is_at_it = false;
      if (near.has(next) && plots.get(next) === null) plots.set(next, next.draw());
      draw_next();
    });
  };
  const nearby = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) near[isIntersecting ? "add" : "delete"](target);
    draw_next();
  }, { rootMargin: "200px" });
  return {
    set(figures) {
      nearby.disconnect();
      near.clear();
      plots.forEach((plot) => plot?.destroy());
      plots = new Map(figures.map((figure) => [figure, null]));
      figures.forEach((figure) => nearby.observe(figure));
    },
    redraw() {
      for (const [figure, plot] of plots) {
        plot?.destroy();
        plots.set(figure, null);
      }
      draw_next();
    },
  };
}
