// On a phone first, in the light and in the dark.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, desktop, open, overflow, phone, sections, shot, signIn, useBrowser } from './support/browser.mjs';
import { dashboard } from './support/place.mjs';

useBrowser();

const sizes = { phone, desktop, narrow: { ...phone, viewport: { width: 320, height: 568 } }, wide: { viewport: { width: 1920, height: 1080 } } };

for (const [size, options] of Object.entries(sizes)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${size}, ${colorScheme}: nothing has to be scrolled sideways`, async () => {
      const page = await open({ options: { ...options, colorScheme } });
      await page.goto(dashboard);
      await page.locator('#sign-in').waitFor();
      assert.ok((await overflow(page)) <= 0, 'signed out');
      await shot(page, `signed-out-${size}-${colorScheme}`, { fullPage: false });
      await signIn(page, { query: '?include_details=true&time_range=24h' });
      await allSettled(page);
      for (const summary of await page.locator('details:not([open]) > summary').all()) if (await summary.isVisible()) await summary.click();
      await page.evaluate(() => window.scrollTo(0, 0));
      const wide = await page.evaluate(() =>
        [...document.querySelectorAll('main section, main section > *, header, nav')]
          .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
          .map((each) => `${each.tagName}#${each.id || each.parentElement.id} ${Math.round(each.getBoundingClientRect().right)}`));
      assert.deepEqual(wide, []);
      assert.ok((await overflow(page)) <= 0, `${await overflow(page)} px too wide`);
      await shot(page, `${size}-${colorScheme}`);
      await shot(page, `${size}-${colorScheme}-first`, { fullPage: false });
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
      assert.ok(colorScheme === 'dark' ? background < 200 : background > 600, `the background of ${colorScheme} is ${background}`);
    });
  }
}

test('on a phone the verdict is on the first screen, and what is pressed is large enough', async () => {
  const page = await open({ options: phone });
  await signIn(page);
  await allSettled(page);
  await page.evaluate(() => window.scrollTo(0, 0));
  const top = await page.locator('#verdict strong').first().evaluate((each) => each.getBoundingClientRect().bottom);
  assert.ok(top < 640, `the score ends at ${top}`);
  // WCAG 2.2, 2.5.8: 24 by 24 pixels, links within text excepted.
  const small = await page.evaluate(() =>
    [...document.querySelectorAll('button, select, summary, input, nav a')]
      .filter((each) => each.checkVisibility())
      .map((each) => [each, (each.type === 'checkbox' ? each.closest('label') ?? each : each).getBoundingClientRect()])
      .filter(([, box]) => box.width < 24 || box.height < 24)
      .map(([each, box]) => `${each.tagName} ${each.textContent.slice(0, 20)} ${Math.round(box.width)}x${Math.round(box.height)}`));
  assert.deepEqual(small, []);
});

test('sections are in the order in which an on-call person asks', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  const order = await page.locator('main section[data-state]').evaluateAll((all) => all.map((each) => each.id));
  assert.deepEqual(order.filter((id) => sections.includes(id)), sections);
});

test('nothing moves for who asked for less motion', async () => {
  for (const reducedMotion of ['reduce', 'no-preference']) {
    const page = await open({ options: { reducedMotion } });
    await signIn(page);
    await allSettled(page);
    const moving = await page.evaluate(() =>
      [...document.querySelectorAll('*')].filter((each) => {
        const style = getComputedStyle(each);
        const longest = (list) => Math.max(...list.split(',').map((each) => parseFloat(each) * (each.trim().endsWith('ms') ? 1 : 1000)));
        return (style.animationName !== 'none' && longest(style.animationDuration) > 10) || longest(style.transitionDuration) > 10 || style.scrollBehavior === 'smooth';
      }).map((each) => each.tagName + each.className));
    if (reducedMotion === 'reduce') assert.deepEqual(moving, []);
  }
});

test('text twice as large is still there', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.evaluate(() => (document.documentElement.style.fontSize = '200%'));
  assert.ok((await overflow(page)) <= 0, `${await overflow(page)} px too wide`);
  await shot(page, 'text-200-percent', { fullPage: false });
});
