// When the page asks again, and when it does not.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, signIn, useBrowser } from './support/browser.mjs';
import { sql } from './support/place.mjs';

useBrowser();

const asked = (page) => page.seen.requests.filter((request) => request.url().includes('/performance')).length;

/** Whatever was going to be asked has been: the page's own events are handled in order. */
const breathe = (page) => page.evaluate(() => new Promise((resolve) => queueMicrotask(() => requestAnimationFrame(resolve)))).catch(() => {});

test('it asks again after half a minute, and shows what is new', async () => {
  const page = await open();
  await page.clock.install();
  await signIn(page);
  await allSettled(page);
  const before = asked(page);
  const label = `new ${Date.now()}`;
  sql(`update monitoring.critical_windows set label = label || '${label}' where label like 'Ceremony%'`);
  try {
    await page.clock.fastForward(20_000);
    await breathe(page);
    assert.equal(asked(page), before, 'after twenty seconds');
    await page.clock.fastForward(15_000);
    await page.locator('#next').filter({ hasText: label }).waitFor();
    assert.equal(asked(page), before + 1);
  } finally {
    sql(`update monitoring.critical_windows set label = replace(label, '${label}', '') where label like 'Ceremony%'`);
  }
});

test('what somebody opened stays open, and what they closed stays closed, when it asks again', async () => {
  const page = await open();
  await page.clock.install();
  await signIn(page);
  await allSettled(page);
  const opened = page.locator('#findings details').first();
  const words = await opened.locator('xpath=..').getByRole('heading').textContent();
  await opened.locator('summary').click();
  const closed = page.locator('#next details[open]').first();
  await closed.locator('summary').first().click();
  const before = asked(page);
  await page.clock.fastForward(35_000);
  await page.waitForResponse((response) => response.url().includes('/readiness'));
  await allSettled(page);
  assert.ok(asked(page) > before);
  const again = page.locator('#findings li').filter({ hasText: words }).locator('details').first();
  assert.ok(await again.evaluate((details) => details.open));
  assert.ok(!(await page.locator('#next details').first().evaluate((details) => details.open)));
});

test('it asks nothing while nobody looks, and at once when somebody does again', async () => {
  const page = await open();
  await page.clock.install();
  await signIn(page);
  await allSettled(page);
  // Another tab in front, as a person has it: playwright's own pretence, that every tab is the one in front, is switched off.
  const session = await page.context().newCDPSession(page);
  await session.send('Emulation.setFocusEmulationEnabled', { enabled: false });
  const other = await page.context().newPage();
  await other.bringToFront();
  const hidden = await page.evaluate(() => document.hidden);
  if (!hidden) {
    // Chromium without a window shows every tab: the page is told what it would be told.
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
      document.dispatchEvent(new Event('visibilitychange'));
    });
  }
  const before = asked(page);
  for (let minutes = 0; minutes < 10; minutes += 1) await page.clock.fastForward(60_000);
  await page.evaluate(() => 1);
  assert.equal(asked(page), before, 'for ten minutes in the background');
  await page.bringToFront();
  if (!hidden) {
    await page.evaluate(() => {
      delete document.hidden;
      delete document.visibilityState;
      document.dispatchEvent(new Event('visibilitychange'));
    });
  }
  await page.waitForResponse((response) => response.url().includes('/performance'));
  await becomes(page, 'verdict', 'ready');
  assert.equal(asked(page), before + 1);
});
