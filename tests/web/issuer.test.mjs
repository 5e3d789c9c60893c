// Signing in at an OpenID Connect issuer, by a code and PKCE. The issuer is ours (support/issuer.mjs); its keys are the function's own.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, shot, useBrowser } from './support/browser.mjs';
import { issuerDashboard } from './support/issuer.mjs';

useBrowser();

const { ISSUER } = process.env;
const dashboard = issuerDashboard();
const openThere = (more = {}) => open({ origins: [new URL(dashboard).origin, ISSUER], ...more });
const toIssuer = (page) => page.getByRole('button', { name: /^Sign in with/ });

test('somebody signs in at the issuer and comes back to where they were', async () => {
  const page = await openThere();
  await page.goto(`${dashboard}?time_range=24h`);
  await toIssuer(page).waitFor();
  await shot(page, 'issuer-offered', { fullPage: false });
  await toIssuer(page).click();
  await page.getByRole('link', { name: 'Continue as an admin' }).click();
  await becomes(page, 'verdict', 'ready');
  const here = new URL(page.url());
  assert.deepEqual([...here.searchParams], [['time_range', '24h']]);
  assert.equal(here.hash, '');
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  const redeemed = page.seen.requests.filter((request) => request.url() === `${ISSUER}/token`);
  assert.equal(redeemed.length, 1);
  await page.reload();
  await allSettled(page);
  assert.equal(page.seen.requests.filter((request) => request.url() === `${ISSUER}/token`).length, 1, 'a code is redeemed once');
});

test('a refusal is told in the words of the issuer, as text', async () => {
  const page = await openThere();
  await page.goto(dashboard);
  await toIssuer(page).click();
  await page.getByRole('link', { name: 'Deny' }).click();
  await page.locator('#notice').filter({ hasText: '<img src=x onerror=window.pwned=1>' }).waitFor();
  assert.ok(await page.locator('#sign-in').isVisible());
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test('an answer that nobody asked for signs nobody in', async () => {
  const page = await openThere();
  for (const query of ['?code=0123456789abcdef&state=made-up', '?state=made-up', '?error=access_denied&state=made-up']) {
    await page.goto(dashboard + query);
    await page.locator('#notice').filter({ hasText: /\w/ }).waitFor();
    assert.ok(await page.locator('#sign-in').isVisible());
    assert.equal(page.seen.requests.filter((request) => request.url() === `${ISSUER}/token`).length, 0);
    assert.ok(!page.url().includes('made-up'), 'the answer stays in the address');
  }
});

test('a link with a made-up answer ends no session', async () => {
  const page = await openThere();
  await page.goto(dashboard);
  await toIssuer(page).click();
  await page.getByRole('link', { name: 'Continue as an admin' }).click();
  await becomes(page, 'verdict', 'ready');
  await page.goto(`${dashboard}?code=0123456789abcdef&state=made-up`);
  await becomes(page, 'verdict', 'ready');
  assert.ok(!(await page.locator('#gate').isVisible()));
  assert.ok(!page.url().includes('made-up'), 'the answer stays in the address');
});

test('an answer that names another issuer is refused, and its code stays here', async () => {
  const page = await openThere();
  await page.goto(dashboard);
  await toIssuer(page).click();
  const back = new URL(await page.getByRole('link', { name: 'Continue as an admin' }).getAttribute('href'));
  assert.equal(back.searchParams.get('iss'), ISSUER);
  back.searchParams.set('iss', 'https://login.attacker.example');
  await page.goto(back.href);
  await page.locator('#notice').filter({ hasText: 'another issuer' }).waitFor();
  assert.ok(await page.locator('#sign-in').isVisible());
  assert.equal(page.seen.requests.filter((request) => request.url() === `${ISSUER}/token`).length, 0);
});

test('a code that somebody else has used is refused', async () => {
  const page = await openThere({ mayFail: true });
  await page.goto(dashboard);
  await toIssuer(page).click();
  const back = await page.getByRole('link', { name: 'Continue as an admin' }).getAttribute('href');
  const { searchParams } = new URL(back);
  // Whoever has the code and not the verifier gets nothing, and uses it up.
  const stolen = await fetch(`${ISSUER}/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'authorization_code', client_id: 'pgvigil-page', redirect_uri: dashboard, code: searchParams.get('code'), code_verifier: 'x'.repeat(43) }),
  });
  assert.equal(stolen.status, 400);
  await page.getByRole('link', { name: 'Continue as an admin' }).click();
  await page.locator('#notice').filter({ hasText: /\w/ }).waitFor();
  assert.ok(await page.locator('#sign-in').isVisible());
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test('a token can be pasted there as well', async () => {
  const page = await openThere({ mayFail: true });
  await page.goto(dashboard);
  await toIssuer(page).waitFor();
  // One that the function of this page does not know: its keys are the issuer's.
  await page.locator('#token').fill('a.b.c');
  await page.locator('#sign-in').getByRole('button', { name: 'Sign in' }).click();
  await page.locator('#notice').filter({ hasText: /\w/ }).waitFor();
});
