// The database goes away while somebody looks, and comes back. The last of the tests: the demo's workload does not survive it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

import { allSettled, becomes, open, sections, shot, signIn, state, text, useBrowser } from './support/browser.mjs';

useBrowser();

function server(action) {
  const { DEMO, PG_BIN } = process.env;
  const command = [path.join(PG_BIN, 'pg_ctl'), '-D', path.join(DEMO, 'postgres/data'), '-w', ...action];
  const isRoot = process.getuid() === 0;
  const { status, stderr } = isRoot ? spawnSync('runuser', ['-u', 'postgres', '--', ...command], { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] }) : spawnSync(command[0], command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
  assert.equal(status, 0, stderr);
}

const stop = () => server(['stop', '-m', 'immediate']);
const start = () => server(['start', '-l', path.join(process.env.DEMO, 'postgres/postgres.log')]);
const answered = (page) => page.seen.requests.filter((request) => request.url().includes('/performance')).length;

test('an outage looks like one, is asked about ever more seldom, and ends by itself', async () => {
  const page = await open({ mayFail: true });
  await page.clock.install();
  await signIn(page);
  const before = await allSettled(page);
  const names = await page.locator('#tables tbody [role=rowheader]').allTextContents();
  assert.ok(names.length >= 9);
  stop();
  let isDown = true;
  try {
    // From one answer to the next the clock runs ahead until the page asks again: how far is how long it waits.
    const pauses = [];
    for (let round = 0; round < 4; round += 1) {
      const count = answered(page);
      let waited = 0;
      const refused = page.waitForResponse((response) => response.url().includes('/performance'));
      while (answered(page) === count && waited < 700) {
        await page.clock.fastForward(5000);
        waited += 5;
      }
      assert.ok(waited < 700, 'it asks no more');
      const response = await refused;
      assert.ok([503, 504].includes(response.status()), `${response.status()}`);
      await becomes(page, 'tables', 'stale');
      await page.waitForFunction(() => !document.getElementById('watch').hasAttribute('aria-busy'));
      pauses.push(waited);
    }
    console.log(`outage: asked again after ${pauses.join(', ')} s`);
    assert.ok(pauses[3] > pauses[0] * 3, `it does not back off: ${pauses}`);
    for (const id of sections) if (before[id] === 'ready' && id !== 'pages') assert.equal(await state(page, id), 'stale', `#${id}`);
    assert.match(await text(page, 'tables'), /older|stale|not been/i);
    assert.deepEqual(await page.locator('#tables tbody [role=rowheader]').allTextContents(), names, 'what was known is still there');
    assert.ok(await page.locator('#notice').isVisible());
    assert.match(await page.locator('#notice').innerText(), /database/i);
    await shot(page, 'outage');
    await shot(page, 'outage-first', { fullPage: false });

    // Whoever comes now has nothing old to look at, and is told why.
    const late = await open({ mayFail: true, options: { colorScheme: 'dark' } });
    await signIn(late);
    await becomes(late, 'verdict', 'error');
    for (const id of ['findings', 'slow', 'locks', 'tables', 'rls']) {
      assert.equal(await state(late, id), 'error', `#${id}`);
      assert.match(await text(late, id), /no answer|unavailable|not/i);
    }
    assert.equal(await late.locator('main section tr, main section ol li').count(), 0);
    await shot(late, 'outage-newcomer');

    start();
    isDown = false;
    for (let minutes = 0; minutes < 12 && (await state(page, 'verdict')) === 'stale'; minutes += 1) {
      const count = answered(page);
      await page.clock.fastForward(60_000);
      if (answered(page) > count) await page.waitForFunction(() => !document.getElementById('watch').hasAttribute('aria-busy'));
    }
    await becomes(page, 'verdict', 'ready', 'degraded');
    await becomes(page, 'tables', 'ready');
    await page.waitForFunction(() => document.getElementById('notice').hidden);
    // From then on as before.
    const count = answered(page);
    await page.clock.fastForward(35_000);
    await page.waitForFunction(() => true);
    await page.waitForResponse((response) => response.url().includes('/performance')).catch(() => {});
    assert.equal(answered(page), count + 1);
  } finally {
    if (isDown) start();
  }
});

test('an answer that grows old looks old, even where nothing fails', async () => {
  const page = await open();
  await page.clock.install();
  await signIn(page);
  await allSettled(page);
  // The network swallows what is asked: no answer, no error.
  await page.route('**/api/monitoring/**', () => {});
  await page.clock.fastForward(31_000);
  await page.clock.fastForward(120_000);
  await becomes(page, 'tables', 'stale');
  assert.match(await page.locator('output#freshness').innerText(), /min/);
});
