// The console of a real gateway, with a real simulated Userpilot behind it. tests/it/console/browser.rs
// starts both and runs this; one visit of an operator, in order, then one of a reader.
//
// CONSOLE_URL, CONSOLE_TOKEN, CONSOLE_READER_TOKEN: see browser.mjs
// GATEWAY_URL    where the gateway takes updates over HTTP
// SIMULATOR_URL  where its Userpilot is
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { env } from 'node:process';
import test, { after, before } from 'node:test';
import { enter, launch, openGateway, visit } from './browser.mjs';
import { answer, counts, open, said } from './fixture.mjs';

const WAIT_MS = 45000; // Only a failure takes so long.
const { GATEWAY_URL, SIMULATOR_URL } = env;
let gateway;
let browser;
let ada; // The operator's visit.

before(async () => {
  gateway = await openGateway();
  browser = await launch();
});
after(() => browser?.close());

async function request(method, url, body) {
  const headers = { 'content-type': 'application/json' };
  const answered = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(answered.ok, `${method} ${url}: ${answered.status} ${await answered.clone().text()}`);
  return answered;
}

const send = (userId, metadata) => request('POST', `${GATEWAY_URL}/apps/production/v1/identify`,
  { user_id: userId, metadata });
const poison = (userIds) => request('POST', `${SIMULATOR_URL}/_simulator/poison`,
  { user_ids: userIds, mode: 'reject_batch' });
const profiles = async () => (await request('GET', `${SIMULATOR_URL}/_simulator/profiles`)).json();

/** Looks again and again until there is something to see. */
async function until(what, look) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < deadline, `${what}: not within ${WAIT_MS} ms`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

const card = (page) => page.getByRole('article').first();
const figure = (page, name, value) => card(page).locator('.figures div').filter({ hasText: name })
  .locator('dd').filter({ hasText: value });
const rows = (page) => page.getByRole('table').locator('tbody tr');
const letterOf = (page, user) => rows(page).filter({ has: page.getByText(user, { exact: true }) });
const lever = async (page, name, action) => {
  await page.getByRole('button', { name }).first().click();
  await answer(page, action);
};

/** What the server answers to a call that a page makes with its session. */
const call = (page, method, body = {}) => page.evaluate(async ([name, json]) => {
  const session = await fetch('/console/api/session');
  const { csrf = '' } = session.ok ? await session.json() : {};
  const headers = { 'content-type': 'application/json', 'x-csrf-token': csrf };
  const path = `/console/api/rpc/${name}`;
  return (await fetch(path, { method: 'POST', headers, body: JSON.stringify(json) })).status;
}, [method, body]);

test('an operator logs in, and sees the state of the app', async () => {
  ada = await enter(browser, gateway, { timeout: WAIT_MS, expected: [/401 .*\/api\/rpc\//] });
  await card(ada.page).getByRole('heading', { name: 'production' }).waitFor();
  await card(ada.page).getByText('Healthy: idle').waitFor();
  await card(ada.page).getByText('Nothing waits.').waitFor();
  await ada.page.getByText('Live', { exact: true }).waitFor();
});

test('an app is paused, and what is sent then is seen live, by events and without a reload', async () => {
  const { page } = ada;
  await open(page, 'Settings');
  await lever(page, /^Pause production/, 'Pause');
  await said(page, 'is paused.');
  await open(page, 'Overview');
  await card(page).getByText('Paused', { exact: true }).waitFor();
  await figure(page, 'Pending', /^0$/).waitFor();
  await page.evaluate(() => { window.isTheSamePage = true; });
  const asked = [];
  const note = (each) => asked.push(each.url());
  page.on('request', note);
  for (const user of ['ada', 'bob', 'cyn']) await send(user, { plan: 'pro' });
  await figure(page, 'Pending', /^3$/).waitFor();
  await send('dan', { plan: 'free' });
  await figure(page, 'Pending', /^4$/).waitFor();
  page.off('request', note);
  assert.ok(await page.evaluate(() => window.isTheSamePage));
  assert.deepEqual(asked.filter((url) => /GetStatus|\/console\/?$/.test(url)), []);
});

test('a flush of what is paused says so; resumed, a job runs, and has a page', async () => {
  const { page } = ada;
  await open(page, 'Settings');
  await page.getByRole('button', { name: /^Flush now production/ }).click();
  await page.getByRole('dialog').getByText(/nothing is submitted until somebody resumes/).waitFor();
  await answer(page, 'Flush');
  await said(page, 'submits nothing until it is resumed');
  await lever(page, /^Resume production/, 'Resume');
  await said(page, 'is resumed.');
  await open(page, 'Jobs');
  const job = rows(page).filter({ hasText: 'delivered' });
  await job.first().waitFor();
  assert.equal(await job.first().locator('[data-label=Rows]').innerText(), '4');
  const batch = await job.first().getByRole('link').innerText();
  await job.first().getByRole('link').click();
  await page.getByText(batch, { exact: true }).first().waitFor();
  const happened = page.getByRole('table', { name: 'What happened' });
  for (const what of ['Claimed', 'Submitted', 'Accepted', 'Completed']) {
    await happened.getByText(what, { exact: true }).waitFor();
  }
  assert.deepEqual((await profiles()).dan.metadata, { plan: 'free' });
});

test('a reload keeps the session and the page', async () => {
  const { page } = ada;
  await open(page, 'Jobs');
  await page.reload();
  await page.getByRole('heading', { level: 1, name: 'Jobs', exact: true }).waitFor();
  await rows(page).first().waitFor();
  assert.equal(await page.getByLabel('Admin token').count(), 0);
});

test('what Userpilot refuses is found among the dead letters, and replayed', async () => {
  const { page } = ada;
  await poison(['mallory', 'eve']);
  for (const user of ['mallory', 'eve', 'fay']) await send(user, { plan: `of ${user}` });
  await open(page, 'Overview');
  await figure(page, 'Dead letters', /^2$/).waitFor();
  await open(page, 'Dead letters');
  await page.getByLabel('Id, exactly').fill('mallory');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByText('of user mallory').waitFor();
  await counts(rows(page), 1);
  await letterOf(page, 'mallory').getByRole('link', { name: /^Look/ }).click();
  await page.getByRole('table', { name: 'Properties of the dead letter' }).getByText('of mallory').waitFor();
  assert.equal((await profiles()).mallory, undefined);
  await request('DELETE', `${SIMULATOR_URL}/_simulator/poison`);
  await page.getByRole('button', { name: 'Replay', exact: true }).click();
  await answer(page, 'Replay');
  await said(page, '1 dead letter replayed.');
  await until('the profile', async () => (await profiles()).mallory);
});

test('the one that is left is exported, with its values', async () => {
  const { page } = ada;
  await open(page, 'Dead letters');
  await letterOf(page, 'eve').waitFor();
  await page.getByRole('button', { name: 'Export all', exact: true }).click();
  const download = page.waitForEvent('download');
  await answer(page, 'Export');
  const lines = readFileSync(await (await download).path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  const open_ = lines.filter(({ state }) => state === 'DEAD_LETTER_STATE_OPEN');
  assert.deepEqual(open_.map(({ subject, metadata }) => [subject.user_id, metadata.plan]), [['eve', 'of eve']]);
});

test('another one is discarded, and its values are forgotten', async () => {
  const { page } = ada;
  await open(page, 'Dead letters');
  const letter = letterOf(page, 'eve');
  await letter.waitFor();
  await letter.getByRole('link', { name: /^Look/ }).click();
  await page.getByRole('button', { name: 'Discard' }).click();
  await answer(page, 'Discard');
  await said(page, '1 dead letter discarded.');
  await page.getByText('It is closed, and its values are forgotten.').waitFor();
  await open(page, 'Overview');
  await figure(page, 'Dead letters', /^0$/).waitFor();
});

test('a user is found, with its delivery', async () => {
  const { page } = ada;
  await open(page, 'Find a user');
  await page.getByLabel('Id, exactly as it was sent').fill('mallory');
  await page.getByRole('button', { name: 'Find', exact: true }).click();
  await page.getByRole('heading', { level: 2, name: /User mallory/ }).waitFor();
  const deliveries = page.getByRole('table', { name: 'Deliveries, newest first' });
  await until('the delivery', async () => {
    await page.getByRole('button', { name: 'Look again' }).click();
    return (await deliveries.count()) > 0;
  });
  assert.ok(!page.url().includes('mallory'));
});

test('who sends is seen, with what was taken of it', async () => {
  const { page } = ada;
  await open(page, 'Clients');
  const anyone = rows(page).filter({ has: page.getByRole('rowheader', { name: /^anyone/ }) });
  await anyone.locator('[data-label=Accepted]').getByText(/^7/).waitFor();
  await anyone.locator('[data-label=Refused]').getByText('none').waitFor();
});

test('a user is forgotten, and its delivery is found no more', async () => {
  const { page } = ada;
  await open(page, 'Find a user');
  await page.getByLabel('Id, exactly as it was sent').fill('bob');
  await page.getByRole('button', { name: 'Find', exact: true }).click();
  await page.getByRole('table', { name: 'Deliveries, newest first' }).waitFor();
  await page.getByRole('button', { name: 'Forget in production …' }).click();
  await answer(page, 'Forget', 'bob');
  await said(page, 'The user is forgotten.');
  const erased = page.getByRole('table', { name: 'What was erased' }).locator('tbody tr');
  assert.equal(await erased.locator('td').last().innerText(), '0', 'something is left');
  await page.getByText('Nothing of this user is here.').waitFor();
});

test('after the log-out the page shows nothing, and the server answers nothing', async () => {
  const { page, context, faults } = ada;
  await page.getByRole('button', { name: 'Log out' }).first().click();
  await page.getByText('You are logged out.').waitFor();
  assert.equal(await call(page, 'GetStatus'), 401);
  await page.reload();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await page.getByRole('article').count(), 0);
  assert.deepEqual(faults, []);
  await context.close();
});

test('a reader sees the state and can do nothing, and the server refuses it, too', async () => {
  const token = gateway.readerToken;
  const { page, context, faults } = await enter(browser, gateway, { timeout: WAIT_MS, token, expected: [/403/] });
  await card(page).getByText('Healthy: idle').waitFor();
  await open(page, 'Settings');
  for (const name of [/^Flush now/, /^Pause/]) {
    assert.ok(await page.getByRole('button', { name }).first().isDisabled());
  }
  await open(page, 'Dead letters');
  for (const name of [/^Replay/, /^Discard/, /^Export/]) {
    assert.ok(await page.getByRole('button', { name }).first().isDisabled());
  }
  await open(page, 'Find a user');
  await page.getByText(/You are logged in as a reader/).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Find' }).count(), 0);
  // Of what went wrong it reads the cause, and not Userpilot's words.
  await open(page, 'Jobs');
  await rows(page).filter({ has: page.locator('[data-label=Outcome]', { hasText: 'dead' }) }).first()
    .getByRole('link').click();
  await page.getByText('What went wrong last: 422', { exact: true }).waitFor();
  const all = { selection: { all: {} } };
  const subject = { subject: { user_id: 'ada' } };
  for (const [method, body] of [['Pause'], ['Resume'], ['FlushNow'], ['ReplayDeadLetters', all],
    ['DiscardDeadLetters', all], ['GetDeadLetter', { id: '1-1' }], ['FindSubject', subject],
    ['ForgetSubject', subject], ['ExportPending'], ['ExportDeadLetters']]) {
    assert.equal(await call(page, method, body), 403, method);
  }
  assert.equal(await call(page, 'GetStatus'), 200);
  assert.deepEqual(faults, []);
  await context.close();
});

test('what no visit may have is noticed where it is', async () => {
  const { page, context, at, faults } = await visit(browser, gateway, { timeout: WAIT_MS });
  await page.goto(at('/'));
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  await page.evaluate(() => { new Image().src = 'https://elsewhere.invalid/pixel.png'; });
  await until('a fault', () => faults.some((fault) => /violates .*img-src/.test(fault)));
  await context.close();
});
