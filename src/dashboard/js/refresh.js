// When to ask again: every half minute while somebody looks, later and later while it fails, never sooner than the API said.

const EVERY_MS = 30000;
const AT_MOST_MS = 300000;

let load = null;
let timer = null;
let due_at = 0;
let failures = 0;
let is_loading = false;

function schedule(ms) {
  clearTimeout(timer);
  due_at = Date.now() + ms;
  if (!document.hidden) timer = setTimeout(run, ms);
}

async function run() {
  if (is_loading || load === null) return;
  is_loading = true;
  clearTimeout(timer);
  const mine = load;
  let failed = null;
  try {
    failed = await mine();
  } finally {
    is_loading = false;
  }
  if (load !== mine) return load && run();
  failures = failed ? failures + 1 : 0;
  const pause = failed ? Math.min(EVERY_MS * 2 ** (failures - 1), AT_MOST_MS) : EVERY_MS;
  // Pages that failed together should not come back together.
  schedule(Math.max(pause * (failed ? 0.9 + Math.random() * 0.2 : 1), (failed?.wait_seconds ?? 0) * 1000));
}

// Begins, or begins anew: `what` loads once, and answers what was refused, if anything was.
export function start(what) {
  load = what;
  failures = 0;
  return run();
}

export function stop() {
  load = null;
  clearTimeout(timer);
}

// How long until it asks again after a failure; none while all is well.
export function retry_in_ms() {
  return load === null || failures === 0 || is_loading ? null : Math.max(0, due_at - Date.now());
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && load !== null) schedule(Math.max(0, due_at - Date.now()));
});
