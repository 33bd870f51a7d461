// Every page, the session, and that the state moves. Also of a real gateway: see browser.mjs.
import assert from 'node:assert/strict';
import test from 'node:test';
import { NOT_LOGGED_IN, visit } from './browser.mjs';
import { changed, counts, fixture, open } from './fixture.mjs';

const it = fixture();

test('without a session only the log-in is shown', async () => {
  const { page, context, at, faults } = await visit(it.browser, it.gateway, { expected: [NOT_LOGGED_IN] });
  await page.goto(at('/jobs'));
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await page.getByRole('navigation').count(), 0);
  assert.deepEqual(faults, []);
  await context.close();
});

test('a wrong token is refused, with what to do, and the right one leads to the page that was asked for', async () => {
  const { page, context, at, faults } = await visit(it.browser, it.gateway, {
    expected: [NOT_LOGGED_IN, /401 .*\/api\/login/],
  });
  await page.goto(at('/jobs'));
  await page.getByLabel('Admin token').fill('not-a-token');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  await page.getByLabel('Admin token').fill(it.gateway.token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { level: 1, name: 'Jobs', exact: true }).waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test('every page opens by the navigation, and has its title and one main heading', async () => {
  await it.as({}, async (page) => {
    for (const name of ['Jobs', 'Clients', 'Dead letters', 'Find a user', 'Settings', 'Overview']) {
      await open(page, name);
      assert.equal(await page.title(), `${name} · userpilot-gateway`);
      await counts(page.getByRole('heading', { level: 1 }), 1);
    }
  });
});

test('a page that is asked for by its address opens, and one that is not there says so', async () => {
  await it.as({ path: '/clients' }, async (page, { at }) => {
    await page.getByRole('heading', { level: 1, name: 'Clients' }).waitFor();
    await page.goto(at('/nothing-here'));
    await page.getByRole('heading', { level: 1, name: 'No such page' }).waitFor();
  });
});

test('back and forward move between pages', async () => {
  await it.as({}, async (page) => {
    await open(page, 'Clients');
    await open(page, 'Settings');
    await page.goBack();
    await page.getByRole('heading', { level: 1, name: 'Clients' }).waitFor();
    await page.goForward();
    await page.getByRole('heading', { level: 1, name: 'Settings' }).waitFor();
  });
});

test('the overview shows each app with its state in a sentence and its figures', async () => {
  await it.as({}, async (page) => {
    const card = page.getByRole('article').first();
    assert.match(await card.locator('.summary').innerText(), /\w.*\.$/);
    for (const name of ['Pending', 'Oldest waiting', /^Drain(ed in|ing takes)$/, 'Dead letters']) {
      await card.getByText(name, { exact: true }).waitFor();
    }
    await page.getByText('Live', { exact: true }).waitFor();
  });
});

test('what waits changes on the page without a reload', async () => {
  await it.as({}, async (page) => {
    await changed(() => page.getByRole('article').first().locator('.figures').innerText());
  });
});

test('the charts draw, move, and say in a sentence what they show', async () => {
  await it.as({}, async (page) => {
    const rates = page.getByRole('img', { name: /^Rates\. Now .* accepted.*budget/ });
    await rates.waitFor();
    await counts(page.locator('.chart canvas'), 4);
    await changed(() => rates.getAttribute('aria-label'));
    await page.getByRole('radio', { name: 'Last day' }).check({ force: true });
    await rates.waitFor();
  });
});

test('a job has a page with its rows, its ids and what happened', async () => {
  await it.as({ path: '/jobs' }, async (page) => {
    await page.locator('.timeline .bar').first().waitFor({ state: 'attached' });
    const link = page.locator('tbody tr').nth(1).getByRole('link');
    const batch = await link.innerText();
    await link.click();
    await page.getByRole('heading', { level: 1, name: 'Job', exact: true }).waitFor();
    await page.getByText(batch, { exact: true }).first().waitFor();
    await page.getByRole('heading', { name: 'What happened' }).waitFor();
    await page.getByRole('table', { name: 'What happened' }).getByText('Claimed').waitFor();
  });
});

test('a bar of the timeline is read by pointing at it, and opens its job', async () => {
  await it.as({ path: '/jobs' }, async (page) => {
    const bar = page.locator('.timeline .job .bar').nth(2);
    await bar.hover({ force: true });
    await page.locator('.reading', { hasText: /rows?, \w+/ }).waitFor();
    await bar.click({ force: true });
    await page.getByRole('heading', { level: 1, name: 'Job', exact: true }).waitFor();
  });
});

test('clients are shown with how much they send', async () => {
  await it.as({ path: '/clients' }, async (page) => {
    const row = page.getByRole('table').locator('tbody tr').first();
    await row.getByText(/\d\/s/).first().waitFor();
  });
});

test('the configuration in force is shown, and secrets are not', async () => {
  await it.as({ path: '/settings' }, async (page) => {
    const toml = await page.getByRole('region', { name: 'Configuration in force, as TOML' }).innerText();
    assert.match(toml, /\[server\]/);
    assert.ok(!toml.includes(it.gateway.token));
  });
});

test('a reload keeps the session and the page', async () => {
  await it.as({ path: '/jobs' }, async (page) => {
    await page.reload();
    await page.getByRole('heading', { level: 1, name: 'Jobs', exact: true }).waitFor();
    assert.equal(await page.getByLabel('Admin token').count(), 0);
  });
});

test('the session is no business of scripts', async () => {
  await it.as({}, async (page, { context }) => {
    assert.equal(await page.evaluate(() => document.cookie), '');
    const [cookie] = await context.cookies(`${it.gateway.url}/console/`);
    assert.ok(cookie.httpOnly);
    assert.equal(cookie.sameSite, 'Strict');
    const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
    assert.ok(!kept.includes(it.gateway.token));
  });
});

test('after a log-out nothing is shown, and a reload stays out', async () => {
  await it.as({}, async (page) => {
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByText('You are logged out.').waitFor();
    await page.reload();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    assert.equal(await page.getByRole('article').count(), 0);
  });
});

test('a reader sees the state, and is told why it may do nothing', async () => {
  await it.as({ token: it.gateway.readerToken }, async (page) => {
    await page.getByRole('article').first().waitFor();
    await open(page, 'Settings');
    for (const name of [/^Flush now/, /^(Pause|Resume)/]) {
      const button = page.getByRole('button', { name }).first();
      assert.ok(await button.isDisabled());
      const why = await button.getAttribute('aria-describedby');
      assert.match(await page.locator(`#${why}`).innerText(), /role .operator/);
    }
    await open(page, 'Dead letters');
    for (const name of [/^Replay/, /^Discard/, /^Export/]) {
      assert.ok(await page.getByRole('button', { name }).isDisabled());
    }
    assert.equal(await page.getByRole('link', { name: 'Look' }).count(), 0);
    await open(page, 'Find a user');
    await page.getByText(/You are logged in as a reader/).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Find' }).count(), 0);
  });
});

test('a reader who asks past the page is refused', async () => {
  await it.as({ token: it.gateway.readerToken, expected: [/403/] }, async (page) => {
    const status = await page.evaluate(async () => {
      const { csrf } = await (await fetch('/console/api/session')).json();
      const headers = { 'content-type': 'application/json', 'x-csrf-token': csrf };
      return (await fetch('/console/api/rpc/Pause', { method: 'POST', headers, body: '{}' })).status;
    });
    assert.equal(status, 403);
  });
});

test('a call without the token against forgery is refused', async () => {
  await it.as({ expected: [/403/] }, async (page) => {
    const status = await page.evaluate(async () => {
      const headers = { 'content-type': 'application/json' };
      return (await fetch('/console/api/rpc/Pause', { method: 'POST', headers, body: '{}' })).status;
    });
    assert.equal(status, 403);
  });
});

test('the theme that is chosen outlives a reload', async () => {
  await it.as({ theme: 'light' }, async (page) => {
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.getByLabel('Theme').selectOption('dark');
    const dark = await changed(ground, light);
    await page.reload();
    await page.getByRole('article').first().waitFor();
    assert.equal(await ground(), dark);
  });
});
