// axe on every state of the page: nothing serious, nothing critical; what is less is printed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { allSettled, becomes, open, phone, signIn, useBrowser } from './support/browser.mjs';
import { dashboard, packages, sql, token } from './support/place.mjs';

useBrowser();

const axe = readFileSync(packages.resolve('axe-core/axe.min.js'), 'utf8');

async function assertAccessible(page, what) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  assert.ok(passes.length > 10, `axe looked at hardly anything: ${passes.length}`);
  for (const { id, impact, help, nodes } of violations) {
    console.log(`axe: ${what}: ${impact}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.target.join(' ')).join(', ')}${nodes.length > 3 ? ` and ${nodes.length - 3} more` : ''}`);
  }
  const grave = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).slice(0, 3).join('\n')}`), [], what);
  if (violations.length === 0) console.log(`axe: ${what}: nothing, ${passes.length} rules`);
}

const openAll = async (page) => {
  for (const summary of await page.locator('details:not([open]) > summary').all()) if (await summary.isVisible()) await summary.click();
};

for (const colorScheme of ['light', 'dark']) {
  for (const [size, options] of [['desktop', {}], ['phone', phone]]) {
    test(`${size}, ${colorScheme}`, async () => {
      const page = await open({ options: { ...options, colorScheme } });
      await page.goto(dashboard);
      await page.locator('#sign-in').waitFor();
      await assertAccessible(page, `signed out, ${size}, ${colorScheme}`);
      await signIn(page, { query: '?include_details=true' });
      await allSettled(page);
      await openAll(page);
      await assertAccessible(page, `signed in, ${size}, ${colorScheme}`);
      sql("insert into public.monitoring_events (event_type, event_data) values ('slow_query', '{}')");
      await page.reload();
      await becomes(page, 'events', 'ready');
      await page.locator('#events').getByRole('button', { name: /^Resolve/ }).first().click();
      await page.getByRole('dialog').waitFor();
      await assertAccessible(page, `dialog, ${size}, ${colorScheme}`);
    });
  }
}

test('errors, gaps and emptiness', async () => {
  const refused = await open({ mayFail: true });
  await signIn(refused, { as: token({}, 'a key of somebody else, and long enough') });
  await refused.locator('#notice').filter({ hasText: /\w/ }).waitFor();
  await assertAccessible(refused, 'refused');
  const denied = await open({ mayFail: true });
  await signIn(denied, { as: token({ app_metadata: { role: 'guest' } }) });
  await becomes(denied, 'verdict', 'error');
  await assertAccessible(denied, 'a role that may nothing');
  sql('alter function monitoring.rls_status(int) rename to rls_status_away');
  try {
    for (const colorScheme of ['light', 'dark']) {
      const degraded = await open({ options: { colorScheme } });
      await signIn(degraded);
      await allSettled(degraded);
      await assertAccessible(degraded, `degraded, ${colorScheme}`);
    }
  } finally {
    sql('alter function monitoring.rls_status_away(int) rename to rls_status');
  }
  const empty = await open();
  await signIn(empty, { query: '?target=florists' });
  await allSettled(empty);
  await assertAccessible(empty, 'an empty database');
});
