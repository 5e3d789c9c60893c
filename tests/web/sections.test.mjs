// Each section, from a real database.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, shot, signIn, state, text, useBrowser } from './support/browser.mjs';
import { address, sql, token } from './support/place.mjs';

useBrowser();

/** What of the demo's troubles each section must tell of. */
const tells = {
  verdict: [/\b\d+\b/, /poor|fair|good|excellent/i],
  next: [/Ceremony/, /at risk|go/i],
  findings: [/guest_dietary_notes/, /rsvp_events/, /pid \d+|process \d+/],
  changed: [/health score/i, /connections/i, /Brunch|Ceremony/],
  slow: [/caterer-app/, /update vendors set phone/],
  locks: [/vendor-import|holder/, /caterer-app|waiter/],
  statements: [/from guests g where/],
  connections: [/weddings/],
  tables: [/rsvp_events/, /guests/],
  rls: [/guest_dietary_notes/, /seating_plans/],
  events: [/slow|connection|table|rls|performance/i],
  pages: [/guests\.example/, /LCP/, /performance/i],
};

test('every section is filled from the database', async () => {
  const page = await open();
  await signIn(page);
  const states = await allSettled(page);
  for (const [id, words] of Object.entries(tells)) {
    assert.equal(states[id], 'ready', `#${id}`);
    const shown = await text(page, id);
    for (const word of words) assert.match(shown, word, `#${id}`);
    assert.ok((await page.locator(`#${id}`).getByRole('heading').count()) > 0, `#${id} has no heading`);
  }
  assert.match(await page.locator('output#freshness').innerText(), /\d|now/);
  await shot(page, 'desktop');
});

test('what is shown is what the API says', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  const headers = { authorization: `Bearer ${token()}` };
  const { data } = await (await fetch(`${address}/api/monitoring/performance`, { headers })).json();
  for (const [id, names] of Object.entries({
    tables: data.tableHealth.map((row) => row.tablename),
    rls: data.rlsStatus.map((row) => row.tablename),
  })) {
    const shown = await text(page, id);
    for (const name of names) assert.ok(shown.includes(name), `#${id} leaves ${name} out`);
  }
  const findings = await text(page, 'findings');
  for (const { object } of data.summary.findings.filter(({ object }) => object.startsWith('public.'))) assert.ok(findings.includes(object), object);
});

test('charts are drawn, with a gap where nobody looked', async () => {
  const page = await open();
  await signIn(page, { query: '?time_range=24h' });
  await becomes(page, 'changed', 'ready');
  const canvases = page.locator('#changed canvas');
  // They are drawn when they come near the window.
  await page.locator('#changed').scrollIntoViewIfNeeded();
  await page.waitForFunction(() => document.querySelectorAll('#changed figure').length >= 5 && [...document.querySelectorAll('#changed figure')].every((figure) => figure.querySelector('canvas')));
  const drawn = await canvases.evaluateAll((all) =>
    all.map((canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.some((value, place) => place % 4 === 3 && value > 0);
    }));
  assert.ok(drawn.every(Boolean), `of ${drawn.length} charts some are blank: ${drawn}`);
  await page.locator('#changed').scrollIntoViewIfNeeded();
  await shot(page, 'charts-24h');
  for (const range of ['6h', '7d', '30d']) {
    await page.locator('select#time-range').selectOption(range);
    await page.waitForFunction((wanted) => new URL(location.href).searchParams.get('time_range') === wanted, range);
    await page.waitForResponse((response) => response.url().includes(`time_range=${range}`) && response.url().includes('/performance'));
    await becomes(page, 'changed', 'ready');
    await page.locator('#changed').screenshot({ path: `${process.env.WEB_ARTEFACTS}/charts-${range}.png` });
  }
});

test('time range and target are in the address and survive a reload', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.locator('select#time-range').selectOption('24h');
  await page.locator('select#target').selectOption('florists');
  await becomes(page, 'connections', 'ready');
  await page.waitForFunction(() => document.getElementById('connections').textContent.includes('florists'));
  const here = new URL(page.url());
  assert.deepEqual([here.searchParams.get('time_range'), here.searchParams.get('target')], ['24h', 'florists']);
  await page.reload();
  await becomes(page, 'connections', 'ready');
  assert.equal(await page.locator('select#time-range').inputValue(), '24h');
  assert.equal(await page.locator('select#target').inputValue(), 'florists');
  assert.match(await text(page, 'connections'), /florists/);
  assert.ok(page.seen.requests.some((request) => /\/performance\?.*target=florists/.test(request.url()) && request.url().includes('time_range=24h')));
  await page.goBack();
  await becomes(page, 'tables', 'ready');
  assert.equal(await page.locator('select#target').inputValue(), 'default');
  assert.match(await text(page, 'tables'), /rsvp_events/);
});

test('a database without troubles says so in words', async () => {
  const page = await open();
  await signIn(page, { query: '?target=florists' });
  const states = await allSettled(page);
  for (const id of ['slow', 'locks', 'events']) {
    assert.equal(states[id], 'empty', `#${id}`);
    assert.match(await text(page, id), /\w+ \w+/);
  }
  assert.ok(!(await page.locator('main').textContent()).includes('rsvp_events'), 'of another database');
  await shot(page, 'quiet-database');
});

test('a section that fails looks like it, and the others are there', async () => {
  const page = await open();
  sql('alter function monitoring.rls_status(int) rename to rls_status_away');
  try {
    await signIn(page);
    const states = await allSettled(page);
    assert.equal(states.rls, 'degraded');
    assert.match(await text(page, 'rls'), /not all|could not|failed|cannot/i);
    assert.ok(!/protected|no table/i.test(await text(page, 'rls')), 'what failed must not look like health');
    for (const id of ['changed', 'slow', 'locks', 'statements', 'connections', 'tables', 'events']) assert.equal(states[id], 'ready', `#${id}`);
    await page.locator('#rls').scrollIntoViewIfNeeded();
    await page.locator('#rls').screenshot({ path: `${process.env.WEB_ARTEFACTS}/failing-section.png` });
    await shot(page, 'failing-section-page');
  } finally {
    sql('alter function monitoring.rls_status_away(int) rename to rls_status');
  }
  await page.reload();
  await becomes(page, 'rls', 'ready');
});

test('what may not be seen is said, and does not look like health', async () => {
  const page = await open();
  sql('revoke all on all sequences in schema public from monitoring_owner');
  try {
    await signIn(page);
    await allSettled(page);
    assert.equal(await state(page, 'verdict'), 'degraded');
    assert.match(await text(page, 'verdict'), /sequence/);
  } finally {
    sql('grant select on all sequences in schema public to monitoring_owner');
  }
});

test('a target that is not configured is an error in words', async () => {
  const page = await open({ mayFail: true });
  await signIn(page, { query: '?target=nowhere' });
  await becomes(page, 'verdict', 'error');
  await page.locator('#notice').filter({ hasText: /target/i }).waitFor();
  await page.locator('select#target').selectOption('default');
  await becomes(page, 'verdict', 'ready');
  const states = await allSettled(page);
  for (const id of Object.keys(tells)) assert.equal(states[id], 'ready', `#${id}`);
});

test('a refusal that comes late is nobody\'s any more', async () => {
  const page = await open({ mayFail: true });
  let held;
  const asked = new Promise((done) => {
    held = done;
  });
  await page.route(/\/lighthouse\?.*target=nowhere/, (route) => held(route));
  await signIn(page, { query: '?target=nowhere' });
  await becomes(page, 'verdict', 'error');
  const route = await asked;
  await page.locator('select#target').selectOption('default');
  await becomes(page, 'pages', 'loading');
  await page.evaluate(() => {
    const pages = document.getElementById('pages');
    window.states = [];
    new MutationObserver(() => window.states.push(pages.dataset.state)).observe(pages, { attributeFilter: ['data-state'] });
  });
  await route.continue();
  await becomes(page, 'pages', 'ready');
  assert.deepEqual(await page.evaluate(() => window.states), ['ready']);
});
