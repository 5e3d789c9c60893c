// A real Chromium, and pages that are watched for everything a page of ours never does.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, afterEach, before } from 'node:test';

import { address, artefacts, chromiumPath, dashboard, packages, token } from './place.mjs';

const { chromium } = packages('playwright-core');

export const phone = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const desktop = { viewport: { width: 1280, height: 800 } };
export const sections = ['verdict', 'next', 'findings', 'changed', 'slow', 'locks', 'statements', 'connections', 'tables', 'rls', 'events', 'pages'];

/** Generous: what is waited for comes, and on a busy machine it comes late. */
export const patience = 60_000;

let browser;
let contexts = [];

/** Starts Chromium for the tests of a file, and looks after each test at what its pages did. */
export function useBrowser() {
  before(async () => {
    browser = await chromium.launch({
      executablePath: chromiumPath,
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'],
    });
  });
  afterEach(async () => {
    const opened = contexts;
    contexts = [];
    for (const { context } of opened) await context.close();
    for (const { seen } of opened) seen.check();
  });
  after(async () => browser.close());
}

/**
 * A page in a context of its own. `mayFail` says which answers of the server are part of the test: Chromium writes every 4xx and
 * 5xx to the console.
 */
export async function open({ options = {}, mayFail = false, origins = [] } = {}) {
  const context = await browser.newContext({ ...desktop, reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(patience);
  const seen = new Seen(mayFail, origins);
  contexts.push({ context, seen });
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`content security policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  const page = await context.newPage();
  seen.watch(page);
  context.on('page', (other) => seen.watch(other));
  page.seen = seen;
  return page;
}

/** What a page did that nobody should ever see it do. */
class Seen {
  constructor(mayFail, origins) {
    this.mayFail = mayFail;
    this.origins = [new URL(address).origin, ...origins];
    this.requests = [];
    this.problems = [];
    this.pages = new Set();
  }

  watch(page) {
    if (this.pages.has(page)) return;
    this.pages.add(page);
    page.on('request', (request) => {
      const url = new URL(request.url());
      this.requests.push(request);
      const isLocal = ['data:', 'blob:', 'about:'].includes(url.protocol);
      if (!isLocal && !this.origins.includes(url.origin)) this.problems.push(`asked another origin: ${request.url()}`);
    });
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type())) return;
      if (this.mayFail && /^Failed to load resource/.test(message.text())) return;
      this.problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.problems.push(`uncaught: ${error.stack ?? error}`));
    page.on('dialog', (dialog) => {
      this.problems.push(`a dialog opened: ${dialog.message()}`);
      dialog.dismiss().catch(() => {});
    });
  }

  check() {
    assert.deepEqual(this.problems, [], 'what the page did besides');
  }
}

/** Opens the page and signs in by pasting a token. */
export async function signIn(page, { as = token(), query = '' } = {}) {
  await page.goto(dashboard + query);
  await page.locator('#token').fill(as);
  await page.locator('#sign-in').getByRole('button', { name: 'Sign in' }).click();
}

/** The state of a section, as the page itself declares it. */
export const state = (page, id) => page.locator(`#${id}`).getAttribute('data-state');

/** Waits until a section has left the states of waiting, and answers the state it came to. */
export async function settled(page, id) {
  await page.waitForFunction(
    (name) => {
      const found = document.getElementById(name)?.dataset.state;
      return found !== undefined && found !== 'loading';
    },
    id,
    { timeout: patience },
  );
  return state(page, id);
}

/** Waits for one state of a section. */
export async function becomes(page, id, ...states) {
  try {
    await page.waitForFunction(([name, wanted]) => wanted.includes(document.getElementById(name)?.dataset.state), [id, states], { timeout: patience });
  } catch {
    assert.fail(`#${id} is ${await state(page, id)}, not ${states.join(' or ')}: ${await page.locator('#notice').textContent()}`);
  }
}

export async function allSettled(page) {
  const states = {};
  for (const id of sections) states[id] = await settled(page, id);
  return states;
}

/** What a section shows to somebody who looks at it: the browser lays out only what is near the screen. */
export async function text(page, id) {
  const section = page.locator(`#${id}`);
  await section.evaluate(async (each) => {
    each.scrollIntoView();
    for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
  });
  return section.innerText();
}

/** Keeps what the page looks like now; the names say which test it was. */
export async function shot(page, name, { fullPage = true } = {}) {
  const window = page.viewportSize();
  // What is far from the screen is not drawn: for a picture of all of it the screen has to be that large.
  if (fullPage) {
    for (let tries = 0; tries < 4; tries += 1) {
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      if (height <= page.viewportSize().height) break;
      await page.setViewportSize({ ...window, height: Math.min(height, 16_000) });
      await page.waitForTimeout(300);
    }
  }
  await page.screenshot({ path: path.join(artefacts, `${name}.png`) });
  if (fullPage) await page.setViewportSize(window);
}

/** By how many pixels the page is wider than its window: what a reader would have to scroll sideways for. */
export const overflow = (page) =>
  page.evaluate(() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth);
