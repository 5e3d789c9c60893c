// Without a mouse.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, shot, signIn, useBrowser } from './support/browser.mjs';
import { dashboard, sql, token } from './support/place.mjs';

useBrowser();

/** What has the focus, and whether it shows: an outline or a shadow that it has not without, and inside the window. */
const focused = (page) =>
  page.evaluate(async () => {
    // The browser scrolls to it with the next frame.
    for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const at = document.elementFromPoint(Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1), Math.min(Math.max(box.top + Math.min(box.height / 2, 20), 0), innerHeight - 1));
    element.dataset.seen = String(Number(element.dataset.seen ?? 0) + 1);
    return {
      name: `${element.localName}${element.id ? `#${element.id}` : ''} ${(element.getAttribute('aria-label') ?? element.textContent).trim().slice(0, 30)}`,
      id: element.id,
      isShown: (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== 'none',
      isInView: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
      isCovered: Boolean(at) && at !== element && !element.contains(at) && !at.contains(element),
      seen: Number(element.dataset.seen),
    };
  });

test('signing in', async () => {
  const page = await open();
  await page.goto(dashboard);
  await page.locator('#token').waitFor();
  await page.waitForFunction(() => document.activeElement.id === 'token');
  await page.keyboard.insertText(token());
  await page.keyboard.press('Tab');
  assert.match((await focused(page)).name, /Sign in/);
  await page.keyboard.press('Enter');
  await becomes(page, 'verdict', 'ready');
});

test('the first thing is the way past the navigation', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.reload();
  await allSettled(page);
  await page.keyboard.press('Tab');
  const skip = await focused(page);
  assert.match(skip.name, /skip/i);
  assert.ok(skip.isInView && skip.isShown && !skip.isCovered, JSON.stringify(skip));
  await shot(page, 'skip-link', { fullPage: false });
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
});

test('everything is reached, in order, and shows that it is', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.reload();
  await allSettled(page);
  const wanted = await page.evaluate(() =>
    [...document.querySelectorAll('a[href], button, select, input, textarea, summary, [tabindex="0"]')]
      .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled).length);
  const seen = [];
  for (let place = 0; place < wanted + 5; place += 1) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (now === null || now.seen > 1) break;
    seen.push(now);
  }
  assert.ok(seen.length >= wanted, `${seen.length} of ${wanted}: ${seen.map(({ name }) => name).join(' | ')}`);
  assert.deepEqual(seen.filter(({ isShown }) => !isShown).map(({ name }) => name), [], 'the focus does not show');
  assert.deepEqual(seen.filter(({ isInView }) => !isInView).map(({ name }) => name), [], 'the focus is off the screen');
  assert.deepEqual(seen.filter(({ isCovered }) => isCovered).map(({ name }) => name), [], 'the focus is covered');
  assert.equal(await page.locator('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])').count(), 0);
  const ids = seen.map(({ id }) => id);
  assert.ok(ids.indexOf('time-range') < ids.indexOf('sign-out'));
});

test('choosing a time range, opening a remedy, resolving an event', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.locator('#time-range').focus();
  await page.keyboard.press('6');
  await page.keyboard.press('Enter').catch(() => {});
  await page.waitForFunction(() => new URL(location.href).searchParams.get('time_range') === '6h');
  await allSettled(page);
  const remedy = page.locator('#findings summary').first();
  await remedy.focus();
  await page.keyboard.press('Enter');
  assert.ok(await remedy.locator('xpath=..').evaluate((details) => details.open));
  const resolve = page.locator('#events').getByRole('button', { name: /^Resolve/ }).first();
  const label = await resolve.getAttribute('aria-label');
  await resolve.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('name')), 'notes');
  await page.keyboard.insertText('by keyboard');
  // The focus stays in the dialog, or goes to the browser's own controls.
  for (let place = 0; place < 6; place += 1) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null));
  }
  await page.getByRole('dialog').getByRole('button', { name: /^Resolve/ }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  const createdAt = label.match(/\d{4}-\d\d-\d\dT\S+/)[0];
  assert.equal(sql(`select resolution_notes from public.monitoring_events where created_at = '${createdAt}'`), 'by keyboard');
});
