// A gateway and a browser for the tests of one file.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { enter, launch, openGateway } from './browser.mjs';

/** Starts both before the tests of a file, and stops them after. */
export function fixture(options) {
  const it = {};
  before(async () => {
    it.gateway = await openGateway(options);
    it.browser = await launch();
  });
  after(async () => {
    await it.browser?.close();
    await it.gateway?.close();
  });
  /** Does something as a visitor who is logged in, and wants no faults. */
  it.as = async (options_, act) => {
    const visitor = await enter(it.browser, it.gateway, options_);
    try {
      await act(visitor.page, visitor);
      assert.deepEqual(visitor.faults, []);
    } finally {
      await visitor.context.close();
    }
  };
  return it;
}

/** Goes to a page by the navigation. */
export async function open(page, name) {
  const pages = page.getByRole('navigation', { name: 'Pages', exact: true });
  await pages.getByRole('link', { name: new RegExp(`^${name}`) }).click();
  await page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
}

/** Waits until `read` gives something else than `from`, what it gives now, and gives that. */
export async function changed(read, from) {
  const before = from ?? (await read());
  const deadline = Date.now() + 15000;
  for (;;) {
    const now = await read();
    if (now !== before) return now;
    assert.ok(Date.now() < deadline, `still ${before}`);
    await new Promise((next) => setTimeout(next, 100));
  }
}

/** Waits until `read` gives `wanted`: what a page shows follows what it is told by a moment. */
export async function shows(read, wanted, what) {
  const deadline = Date.now() + 15000;
  for (;;) {
    const now = await read();
    if (now === wanted) return;
    if (Date.now() > deadline) assert.equal(now, wanted, what);
    await new Promise((next) => setTimeout(next, 50));
  }
}

/** Waits until a locator finds so many. */
export const counts = (locator, wanted, what) => shows(() => locator.count(), wanted, what);

/** Waits until an element has the focus. */
export const focused = (locator) => shows(() => locator.evaluate((element) => element === document.activeElement), true,
  'has the focus');

/** Answers the dialog that is open. */
export async function answer(page, button, typed) {
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  if (typed !== undefined) await dialog.getByRole('textbox').fill(typed);
  await dialog.getByRole('button', { name: button, exact: true }).click();
}

/** Waits until the page says something in passing. */
export const said = (page, text) => page.locator('.said', { hasText: text }).waitFor();
