// Who may look, and where the token goes.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, patience, sections, shot, signIn, useBrowser } from './support/browser.mjs';
import { dashboard, token } from './support/place.mjs';

useBrowser();

const form = (page) => page.locator('#sign-in');
const notice = (page) => page.locator('#notice');

/** Everywhere but in this tab's session storage and in the header of its requests. */
async function assertKeptToItself(page, secret) {
  const found = await page.evaluate(() => ({
    href: location.href,
    state: JSON.stringify(history.state),
    local: JSON.stringify({ ...localStorage }),
    cookie: document.cookie,
    markup: document.documentElement.outerHTML,
    field: document.getElementById('token').value,
    // How the page itself was reached, fragment and all, is known to its own scripts as long as it lives.
    entries: performance.getEntries().filter((entry) => entry.entryType !== 'navigation').map((entry) => entry.name).join(' '),
  }));
  for (const [where, text] of Object.entries(found)) assert.ok(!text.includes(secret), `the token is in ${where}`);
  for (const request of page.seen.requests) {
    assert.ok(!request.url().replace(/#.*/, '').includes(secret), `the token is in the URL of ${request.url()}`);
    assert.ok(!(request.postData() ?? '').includes(secret), `the token is in the body of ${request.url()}`);
  }
  assert.deepEqual(await page.context().cookies(), []);
}

test('nobody is asked for anything but the page before they sign in', async () => {
  const page = await open();
  await page.goto(dashboard);
  await form(page).waitFor();
  await shot(page, 'signed-out-desktop');
  assert.deepEqual(page.seen.requests.filter((request) => request.url().includes('/api/')).map((request) => request.url()), []);
  assert.ok(await page.locator('#sign-out').isHidden());
});

test('a pasted token signs in and stays in this tab', async () => {
  const page = await open();
  const secret = token();
  await signIn(page, { as: secret });
  await becomes(page, 'verdict', 'ready');
  assert.ok(await form(page).isHidden());
  await assertKeptToItself(page, secret);
  const asked = page.seen.requests.filter((request) => request.url().includes('/performance'));
  assert.equal(asked[0].headers().authorization, `Bearer ${secret}`);
  await page.reload();
  await becomes(page, 'verdict', 'ready');
  const other = await page.context().newPage();
  await other.goto(dashboard);
  await form(other).waitFor();
});

test('a token is taken as people paste it', async () => {
  const page = await open();
  await signIn(page, { as: ` Bearer ${token()}\n` });
  await becomes(page, 'verdict', 'ready');
});

test('a token in the fragment signs in and is gone from the address', async () => {
  const page = await open();
  const secret = token();
  await page.goto(`${dashboard}?time_range=6h#access_token=${secret}&token_type=bearer`);
  await becomes(page, 'verdict', 'ready');
  const address = new URL(page.url());
  assert.equal(address.hash, '');
  assert.equal(address.searchParams.get('time_range'), '6h');
  await assertKeptToItself(page, secret);
  // Nor is it one step back.
  await page.goto('about:blank');
  await page.goBack();
  await becomes(page, 'verdict', 'ready');
  assert.ok(!page.url().includes(secret));
});

for (const [what, secret, words] of [
  ['an expired token', () => token({ exp: Math.floor(Date.now() / 1000) - 120 }), /expired/i],
  ['a forged token', () => token({}, 'a key of somebody else, and long enough'), /\w/],
  ['a token of another issuer', () => token({ iss: 'https://elsewhere.example' }), /\w/],
  ['what is no token', () => 'open sesame', /\w/],
]) {
  test(`${what} leads back to the sign-in, with the reason`, async () => {
    const page = await open({ mayFail: true });
    await signIn(page, { as: secret() });
    await notice(page).filter({ hasText: words }).waitFor();
    assert.ok(await form(page).isVisible());
    assert.equal(await page.evaluate(() => sessionStorage.length), 0, 'what is not accepted is not kept');
    for (const id of sections) assert.equal(await page.locator(`#${id} tr, #${id} li`).count(), 0, `#${id} shows something`);
    await shot(page, `sign-in-${what.replaceAll(' ', '-')}`);
    // And then the right one.
    await page.locator('#token').fill(token());
    await page.getByRole('button', { name: 'Sign in' }).first().click();
    await becomes(page, 'verdict', 'ready');
    assert.ok(await notice(page).isHidden());
  });
}

test('a token that expires while somebody looks ends the session', async () => {
  const page = await open();
  await page.clock.install();
  await signIn(page, { as: token({ exp: Math.floor(Date.now() / 1000) + 900 }) });
  await allSettled(page);
  await page.clock.fastForward(901_000);
  await notice(page).filter({ hasText: /expired/i }).waitFor();
  assert.ok(await form(page).isVisible());
  assert.ok(await page.locator('#findings').isHidden());
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test('a role that may nothing is told so and shown nothing', async () => {
  const page = await open({ mayFail: true });
  await signIn(page, { as: token({ app_metadata: { role: 'guest' } }) });
  await becomes(page, 'verdict', 'error');
  await notice(page).filter({ hasText: /\w/ }).waitFor();
  assert.match(await notice(page).innerText(), /role|may not|forbidden|refused/i);
  for (const id of sections) assert.equal(await page.locator(`#${id} tr, #${id} li`).count(), 0, `#${id} shows something`);
  await shot(page, 'wrong-role');
});

test('signing out leaves nothing behind', async () => {
  const page = await open();
  await signIn(page);
  await allSettled(page);
  await page.locator('#sign-out').click();
  await form(page).waitFor();
  assert.deepEqual(await page.evaluate(() => [sessionStorage.length, localStorage.length]), [0, 0]);
  assert.ok(!(await page.locator('body').textContent()).includes('guest_dietary_notes'));
  for (const id of sections) assert.equal(await page.locator(`#${id} tr, #${id} li`).count(), 0, `#${id} shows something`);
  await page.reload();
  await form(page).waitFor();
  await page.waitForFunction(() => document.activeElement?.id === 'token', null, { timeout: patience });
});

test('a refusal of the token before ends no session', async () => {
  const page = await open({ mayFail: true });
  let held;
  const asked = new Promise((done) => {
    held = done;
  });
  await page.route(/\/performance\?/, (route) => held(route), { times: 1 });
  await page.goto(dashboard);
  await page.locator('#token').fill(token());
  await page.locator('#sign-in').getByRole('button', { name: 'Sign in' }).click();
  const route = await asked;
  await page.locator('#sign-out').click();
  await form(page).waitFor();
  await page.locator('#token').fill(token());
  await page.locator('#sign-in').getByRole('button', { name: 'Sign in' }).click();
  await form(page).waitFor({ state: 'hidden' });
  await route.fulfill({ status: 401, contentType: 'application/problem+json', body: JSON.stringify({ detail: 'the token has expired' }) });
  await becomes(page, 'verdict', 'ready');
  assert.ok(await form(page).isHidden());
});
