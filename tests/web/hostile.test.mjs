// Whatever a database holds stays text.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { allSettled, becomes, open, shot, signIn, text, useBrowser } from './support/browser.mjs';
import { dashboard, token } from './support/place.mjs';

useBrowser();

const markup = '<img src=x onerror=window.pwned=1>';
const script = '</script><script>window.pwned=1</script>';

async function assertNothingRan(page) {
  const found = await page.evaluate(() => ({
    pwned: window.pwned,
    images: document.querySelectorAll('img').length,
    inline: [...document.querySelectorAll('script')].filter((each) => !each.src).length,
    handlers: document.querySelectorAll('[onerror], [onload], [onclick]').length,
  }));
  assert.deepEqual(found, { pwned: undefined, images: 0, inline: 0, handlers: 0 });
}

test('markup in names, statements, labels and events is shown as it is and does nothing', async () => {
  const page = await open();
  await signIn(page, { query: '?include_details=true&time_range=24h' });
  await allSettled(page);
  for (const [id, ...texts] of [
    ['slow', markup, script],
    ['locks', `holder ${markup}`, `waiter ${markup}`],
    ['statements', script],
    ['tables', markup],
    ['rls', markup],
    ['findings', markup],
    ['next', `Ceremony ${markup}`],
    ['events', `lynx ${markup}`],
    ['pages', `Guests ${markup}`, script],
  ]) {
    const section = page.locator(`#${id}`);
    for (const text of texts) {
      const place = section.getByText(text).first();
      assert.ok((await section.textContent()).includes(text), `#${id} does not show ${text}`);
      await place.scrollIntoViewIfNeeded();
    }
  }
  assert.ok((await page.locator('#changed').textContent()).includes(`Brunch ${script}`), 'the window of this morning');
  await assertNothingRan(page);
  await shot(page, 'hostile');
});

test('markup in an opened remedy is text too', async () => {
  const page = await open();
  await signIn(page);
  await becomes(page, 'findings', 'ready');
  for (const summary of await page.locator('#findings details.remedy > summary, #findings details:not([open]) > summary').all()) await summary.click();
  assert.ok((await text(page, 'findings')).includes(`"${markup}"`));
  await assertNothingRan(page);
});

test('markup in the address is text', async () => {
  for (const query of [`?target=${encodeURIComponent(markup)}`, `?time_range=${encodeURIComponent(script)}`, `?error=${encodeURIComponent(markup)}&state=1&error_description=${encodeURIComponent(markup)}`]) {
    const page = await open({ mayFail: true });
    await page.goto(dashboard + query);
    await page.locator('#sign-in').waitFor();
    await page.locator('#token').fill(token());
    await page.getByRole('button', { name: 'Sign in' }).first().click();
    await allSettled(page);
    await assertNothingRan(page);
  }
});

test('a token made of markup is refused as text', async () => {
  const page = await open({ mayFail: true });
  await page.goto(`${dashboard}#access_token=${encodeURIComponent(markup)}`);
  await page.locator('#notice').filter({ hasText: /\w/ }).waitFor();
  await assertNothingRan(page);
});

// The net under all this, and the proof that the tests would see it tear: what the page is made to do here, the policy stops, and
// the watch over every page reports.
test('the policy stops what would have been injected, and is heard', async () => {
  const page = await open();
  await page.goto(dashboard);
  await page.locator('#sign-in').waitFor();
  const ways = {
    'an inline script': () => {
      const element = document.createElement('script');
      element.append('window.pwned = 1');
      document.body.append(element);
    },
    'a script from elsewhere': () => {
      const element = document.createElement('script');
      element.src = 'http://127.0.0.1:9/elsewhere.js';
      document.body.append(element);
    },
    'markup from a string': () => {
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.pwned=1>');
    },
    'a handler': () => {
      const element = document.createElement('button');
      element.setAttribute('onclick', 'window.pwned = 1');
      document.body.append(element);
      element.click();
    },
    'an image from elsewhere': () => {
      document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:9/?stolen', alt: '' }));
    },
    'a request to elsewhere': () => void fetch('http://127.0.0.1:9/?stolen').catch(() => {}),
    'a frame': () => {
      document.body.append(Object.assign(document.createElement('iframe'), { src: 'http://127.0.0.1:9/', title: 'frame' }));
    },
    'another base': () => {
      document.head.append(Object.assign(document.createElement('base'), { href: 'http://127.0.0.1:9/' }));
    },
    'a form to elsewhere': () => {
      const element = Object.assign(document.createElement('form'), { action: 'http://127.0.0.1:9/', method: 'post' });
      document.body.append(element);
      element.submit();
    },
  };
  for (const [what, way] of Object.entries(ways)) {
    page.seen.problems.length = 0;
    await page.evaluate(way).catch((error) => assert.match(error.message, /TrustedScript|TrustedHTML/, what));
    for (let tries = 0; !page.seen.problems.some((problem) => /policy|Trusted/i.test(problem)) && tries < 100; tries += 1) await page.waitForTimeout(50);
    assert.ok(page.seen.problems.some((problem) => /policy|Trusted/i.test(problem)), `nobody heard of ${what}: ${page.seen.problems}`);
    assert.equal(await page.evaluate(() => window.pwned), undefined, what);
    assert.equal(page.url(), dashboard, what);
  }
  page.seen.problems.length = 0;
});
