// Five hundred events, and resolving one.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, phone, shot, signIn, useBrowser } from './support/browser.mjs';
import { dashboard, sql, token } from './support/place.mjs';

useBrowser();

const rows = (page) => page.locator('#events tbody tr');
const resolve = (page) => page.locator('#events').getByRole('button', { name: /^Resolve/ });

/** An event of our own, and its button: the sampler has others that are seen again and again. */
function record(what) {
  const [id, createdAt] = sql(
    `set timezone = 'UTC'; insert into public.monitoring_events (event_type, event_data, severity)
     values ('performance_alert', '{"object": "${what}"}', 'low') returning id, to_jsonb(created_at) #>> '{}'`,
  ).split('|');
  return { id, button: (page) => page.locator(`#events button[aria-label*="${createdAt}"]`) };
}

/** With more rows than the findings that are seen with each sample. */
const all = { query: '?include_details=true' };

test('five hundred events are there, and the page shows the newest of them', async () => {
  assert.ok(Number(sql('select count(*) from public.monitoring_events')) >= 500);
  const page = await open();
  await signIn(page);
  await becomes(page, 'events', 'ready');
  assert.equal(await rows(page).count(), 10);
  await page.goto(`${dashboard}?include_details=true`);
  await page.waitForFunction(() => document.querySelectorAll('#events tbody tr').length === 50);
  await page.locator('#events').scrollIntoViewIfNeeded();
  await page.locator('#events').screenshot({ path: `${process.env.WEB_ARTEFACTS}/events.png` });
});

for (const [where, options] of [['desktop', {}], ['phone', phone]]) {
  test(`an event is resolved from the page (${where})`, async () => {
    const { id, button } = record(`resolved on a ${where}`);
    const page = await open({ options });
    await signIn(page, all);
    await becomes(page, 'events', 'ready');
    await button(page).click();
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    const notes = dialog.locator('textarea[name=notes]');
    await notes.fill('index added <img src=x onerror=window.pwned=1>');
    await shot(page, `resolve-${where}`, { fullPage: false });
    await dialog.getByRole('button', { name: /^Resolve/ }).click();
    await dialog.waitFor({ state: 'hidden' });
    assert.equal(
      sql(`select resolved_at is not null, resolution_notes from public.monitoring_events where id = '${id}'`),
      't|index added <img src=x onerror=window.pwned=1>',
    );
    // And the page tells it without being asked.
    await button(page).waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => window.pwned), undefined);
  });
}

test('what cannot be resolved says why, and can be tried again', async () => {
  const { id, button } = record('deleted meanwhile');
  const page = await open({ mayFail: true });
  await signIn(page, all);
  await becomes(page, 'events', 'ready');
  await button(page).click();
  const dialog = page.getByRole('dialog');
  await dialog.locator('textarea[name=notes]').fill('a long story');
  sql(`delete from public.monitoring_events where id = '${id}'`);
  await dialog.getByRole('button', { name: /^Resolve/ }).click();
  await dialog.getByRole('alert').filter({ hasText: /no event|not resolved/i }).waitFor();
  assert.equal(await dialog.locator('textarea[name=notes]').inputValue(), 'a long story', 'what was written is still there');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
});

test('leaving the dialog resolves nothing and returns to where it was opened', async () => {
  const { id, button } = record('left alone');
  const page = await open();
  await signIn(page, all);
  await allSettled(page);
  await button(page).focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.ok(await button(page).evaluate((element) => element === document.activeElement));
  assert.equal(sql(`select resolved_at is null from public.monitoring_events where id = '${id}'`), 't');
});

test('who may not resolve is not offered it', async () => {
  record('for a developer to look at');
  const page = await open();
  await signIn(page, { as: token({ app_metadata: { role: 'developer' } }) });
  await becomes(page, 'events', 'ready');
  assert.equal(await resolve(page).count(), 0);
});
