// States that are hard to reach with a real gateway: always of the pretend one.
import assert from 'node:assert/strict';
import { env } from 'node:process';
import test, { afterEach } from 'node:test';
import { answer, changed, fixture, open, said } from './fixture.mjs';

delete env.CONSOLE_URL;
const it = fixture();
afterEach(() => it.gateway.set('normal'));

const BROKEN = [/503|ERR_|Failed to load/];
const live = (page) => page.getByText('Live', { exact: true }).waitFor({ timeout: 25000 });
// The page tries by itself, too, and may have done so before the click.
async function tryNow(page) {
  const click = page.getByRole('button', { name: 'Try now' }).click().catch(() => {});
  await Promise.race([click, live(page)]);
  await live(page);
}

test('a lost connection is said, and the page goes on by itself when it is back', async () => {
  await it.as({ expected: BROKEN }, async (page) => {
    await live(page);
    it.gateway.set('down');
    await page.getByText(/The connection to the gateway is lost; what you see is of \d\d:\d\d:\d\d/).waitFor();
    it.gateway.set('normal');
    await live(page);
    await page.getByText(/The connection to the gateway is lost/).waitFor({ state: 'detached' });
    await changed(() => page.getByRole('article').first().innerText());
  });
});

test('where events do not come through, the state is asked for', async () => {
  it.gateway.set('no-events');
  await it.as({ expected: BROKEN }, async (page) => {
    await page.getByText(/Live events do not come through/).waitFor({ timeout: 20000 });
    await changed(() => page.getByRole('article').first().innerText());
    it.gateway.set('normal');
    await tryNow(page);
  });
});

// A stream that is cut before its head came is to Chromium, now and then, an answer of plain text.
const HEADLESS = /EventSource's response has a MIME type \("text\/plain"\)/;

for (const scenario of ['silent-events', 'stuck-events']) {
  test(`where a proxy holds events back, the state is asked for (${scenario})`, async () => {
    it.gateway.set(scenario);
    await it.as({ expected: [...BROKEN, HEADLESS] }, async (page) => {
      await page.getByText(/Live events do not come through/).waitFor({ timeout: 20000 });
      await changed(() => page.getByRole('article').first().innerText());
      it.gateway.set('normal');
      await tryNow(page);
      it.gateway.set(scenario);
      await page.getByText(/Live events do not come through/).waitFor({ timeout: 20000 });
    });
  });
}

test('a session that nobody uses ends, though the page asks for jobs all the time', async () => {
  it.gateway.mock.idleMs = 8000;
  try {
    await it.as({ path: '/jobs', expected: [/401/, ...BROKEN] }, async (page) => {
      const asked = () => it.gateway.mock.calls.filter((method) => method === 'ListJobs').length;
      await changed(asked, await changed(asked));
      await page.getByText(/Your session has ended/).waitFor({ timeout: 15000 });
    });
  } finally {
    it.gateway.mock.idleMs = undefined;
  }
});

test('a look at a user, which is on record, is taken once for each wish', async () => {
  await it.as({ path: '/find' }, async (page) => {
    const looks = () => it.gateway.mock.calls.filter((method) => method === 'FindSubject').length;
    const before = looks();
    await page.getByLabel('Id, exactly as it was sent').fill('u_nobody_else');
    await page.getByRole('button', { name: 'Find' }).click();
    await page.getByRole('heading', { name: 'Waits' }).waitFor();
    // Long enough for a page that looks every few seconds: the mock ticks twice a second.
    for (let n = 0; n < 8; n += 1) await changed(() => it.gateway.mock.ticks);
    assert.equal(looks(), before + 1);
    await page.getByRole('button', { name: 'Look again' }).click();
    await changed(looks, before + 1);
    await page.getByRole('button', { name: 'Find' }).click();
    await changed(looks, before + 2);
    await page.getByRole('heading', { name: 'Waits' }).waitFor();
    assert.equal(looks(), before + 3);
  });
});

test('who is forgotten in all apps but one that is held is said not to be forgotten there', async () => {
  it.gateway.set('held-app');
  await it.as({ path: '/find' }, async (page) => {
    await page.getByLabel('Id, exactly as it was sent').fill('u_held');
    await page.getByRole('button', { name: 'Find' }).click();
    await page.getByRole('button', { name: 'Forget in all apps …' }).click();
    await answer(page, 'Forget', 'u_held');
    await said(page, 'is not forgotten everywhere');
    await page.getByRole('heading', { name: 'Forgotten, but not everywhere' }).waitFor();
    await page.getByText(/Not searched, since they are held: marketing-emea/).waitFor();
  });
});

test('a gateway that is down from the start says so, and can be tried again', async () => {
  it.gateway.set('down');
  const { visit } = await import('./browser.mjs');
  const { page, context, at } = await visit(it.browser, it.gateway);
  await page.goto(at('/'));
  await page.getByRole('heading', { name: 'The gateway does not answer' }).waitFor();
  it.gateway.set('normal');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  await context.close();
});

test('a session that has ended leads to the log-in, and from there back to the page', async () => {
  await it.as({ path: '/clients', expected: [/401/, ...BROKEN] }, async (page) => {
    it.gateway.set('signed-out');
    await page.getByText(/Your session has ended/).waitFor();
    await page.getByLabel('Admin token').fill(it.gateway.token);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { level: 1, name: 'Clients' }).waitFor();
  });
});

test('after too many attempts the log-in says to wait', async () => {
  const { visit } = await import('./browser.mjs');
  const { page, context, at } = await visit(it.browser, it.gateway);
  await page.goto(at('/'));
  it.gateway.mock.failures = 5;
  await page.getByLabel('Admin token').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').getByText(/Too many attempts/).waitFor();
  await context.close();
});

test('a token against forgery that another tab has renewed is fetched anew', async () => {
  await it.as({ path: '/settings', expected: [/403/] }, async (page) => {
    for (const session of it.gateway.mock.sessions.values()) session.csrf = 'another';
    await page.getByRole('button', { name: /^Flush now/ }).first().click();
    await page.getByRole('dialog').getByRole('button', { name: 'Flush', exact: true }).click();
    await page.locator('.said', { hasText: 'is told to flush' }).waitFor();
  });
});

test('where nobody logs in, a gateway that was restarted gives a new session unasked', async () => {
  it.gateway.mock.login = false;
  try {
    await it.as({ token: null, path: '/settings', expected: [/401|403/] }, async (page) => {
      it.gateway.mock.restarted = true;
      await page.getByRole('button', { name: /^Flush now/ }).first().click();
      await page.getByRole('dialog').getByRole('button', { name: 'Flush', exact: true }).click();
      await page.locator('.said', { hasText: 'is told to flush' }).waitFor();
    });
  } finally {
    it.gateway.mock.login = true;
    it.gateway.mock.restarted = false;
  }
});

test('a call that fails is said within its dialog, which stays', async () => {
  await it.as({ path: '/settings', expected: BROKEN }, async (page) => {
    await page.getByRole('button', { name: /^Flush now/ }).first().click();
    it.gateway.set('down');
    await page.getByRole('dialog').getByRole('button', { name: 'Flush', exact: true }).click();
    await page.getByRole('dialog').getByRole('alert').getByText(/could not do it \(503\)/).waitFor();
  });
});

test('a gateway that takes no updates, or runs with an older configuration, says why on every page', async () => {
  it.gateway.set('not-ready');
  await it.as({ path: '/clients' }, async (page) => {
    await page.getByText(/^The gateway takes no updates: the disk is nearly full: less than/).waitFor();
    await page.getByText(/users_per_minute: 0 is below 1/).waitFor();
    await page.getByText(/3 damaged entries/).waitFor();
    await open(page, 'Overview');
    for (const card of await page.getByRole('article').all()) {
      await card.getByText('Refuses updates', { exact: true }).waitFor();
      await card.getByText(/^Updates are refused: the disk is nearly full: less than/).waitFor();
    }
    await open(page, 'Settings');
    await page.getByText('Refuses updates', { exact: true }).first().waitFor();
    assert.equal(await page.getByText(/^Healthy/).count(), 0);
  });
});

for (const [scenario, words] of [
  ['nearly-full', 'Troubled: the queue is nearly full'],
  ['config-refused', 'Troubled: the new configuration is refused'],
]) {
  test(`an app that goes on is not called healthy while there is a trouble (${scenario})`, async () => {
    it.gateway.set(scenario);
    await it.as({}, async (page) => {
      await page.getByRole('article').first().getByText(words).waitFor();
      await page.getByRole('article').nth(1).getByText('Stopped: halted').waitFor();
    });
  });
}

test('an app that has stopped says so in words', async () => {
  it.gateway.set('key-rejected');
  await it.as({}, async (page) => {
    const card = page.getByRole('article').first();
    await card.getByText('Stopped: key rejected').waitFor();
    await card.getByText(/Userpilot refuses the API key/).waitFor();
    await card.getByText(/Failing since/).waitFor();
    await card.getByText('Draining takes').waitFor();
  });
});

test('how long it takes is promised from now on only where it drains', async () => {
  await it.as({}, async (page) => {
    await page.getByRole('article').first().getByText('Drained in').waitFor();
    await page.getByRole('article').nth(1).getByText('Draining takes').waitFor();
    it.gateway.set('slot-taken');
    await page.getByRole('article').first().getByText('Draining takes').waitFor();
  });
});

test('whoever holds the slot is named', async () => {
  it.gateway.set('slot-taken');
  await it.as({}, async (page) => {
    const card = page.getByRole('article').first();
    await card.locator('dd', { hasText: 'contacts-2026.csv' }).waitFor();
    assert.equal(await card.getByText(/Failing since/).count(), 0, 'what failed before is over');
  });
});

test('the flush of a halted app warns of dead letters', async () => {
  await it.as({ path: '/settings' }, async (page) => {
    await page.getByRole('button', { name: 'Flush now marketing-emea' }).click();
    await page.getByRole('dialog').getByText(/up to ten more may become dead letters/).waitFor();
  });
});

test('the flush of a paused app says that nothing is submitted, and of a held one that it does nothing', async () => {
  it.gateway.set('paused-and-held');
  await it.as({ path: '/settings' }, async (page) => {
    await page.getByRole('button', { name: 'Flush now production' }).click();
    await page.getByRole('dialog').getByText(/nothing is submitted until somebody resumes/).waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Flush', exact: true }).click();
    await page.locator('.said', { hasText: 'submits nothing until it is resumed' }).waitFor();
    await page.getByRole('button', { name: 'Flush now marketing-emea' }).click();
    await page.getByRole('dialog').getByText(/is held: 3 records are damaged. A flush does nothing/).waitFor();
  });
});

test('an empty gateway says on each page what to do', async () => {
  it.gateway.set('empty');
  await it.as({}, async (page) => {
    await page.getByText('Nothing has been recorded yet.').waitFor();
    await open(page, 'Jobs');
    await page.getByText('No job yet.').waitFor();
    await open(page, 'Clients');
    await page.getByText('No client is known yet.').waitFor();
    await open(page, 'Dead letters');
    await page.getByText('There are no dead letters.').waitFor();
    assert.equal(await page.getByRole('combobox', { name: 'App' }).count(), 0, 'one app needs no choice');
  });
});

test('the app that is chosen stays chosen from page to page', async () => {
  await it.as({}, async (page) => {
    await page.getByRole('combobox', { name: 'App' }).selectOption('marketing-emea');
    await page.getByRole('heading', { name: 'Over time: marketing-emea' }).waitFor();
    await open(page, 'Dead letters');
    await page.getByRole('table', { name: /Dead letters of marketing-emea/ }).waitFor();
    await open(page, 'Jobs');
    await page.getByText(/Jobs of marketing-emea/).first().waitFor();
  });
});

test('a list goes on page by page, and back', async () => {
  await it.as({ path: '/dead-letters?app=marketing-emea' }, async (page) => {
    const top = () => page.locator('tbody th .id').first().innerText();
    const first = await top();
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('Page 2').waitFor();
    const second = await changed(top, first);
    await page.getByRole('button', { name: 'Previous' }).click();
    await page.getByText('Page 1').waitFor();
    assert.equal(await changed(top, second), first);
  });
});

test('what users and Userpilot write is text, never markup', async () => {
  await it.as({ path: '/dead-letters' }, async (page) => {
    await page.getByText('<b>bold</b>').waitFor();
    assert.equal(await page.locator('main b').count(), 0);
  });
});

test('without admins nobody logs in, and nobody can log out', async () => {
  it.gateway.mock.login = false;
  try {
    await it.as({ token: null }, async (page) => {
      await page.getByText('No log-in is asked for').waitFor();
      assert.equal(await page.getByRole('button', { name: 'Log out' }).count(), 0);
    });
  } finally {
    it.gateway.mock.login = true;
  }
});
