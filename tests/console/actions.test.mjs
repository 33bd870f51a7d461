// Everything that an operator can do. Of a real gateway, its first app has to have open dead letters
// of at least six users: see browser.mjs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { answer, counts, fixture, focused, open, said, shows } from './fixture.mjs';

const it = fixture();
const rows = (page) => page.getByRole('table').locator('tbody tr');
const letters = { path: '/dead-letters' };
const idOf = (row) => row.locator('th .id').innerText();
// A dead letter by the address of its page: its user may have others, or die again.
const link = (row) => row.getByRole('link', { name: /^Look/ });
const pageOf = (row) => link(row).getAttribute('href');
const gone = (page, href) => page.locator(`a[href="${href}"]`).waitFor({ state: 'detached' });

test('a dialog that is cancelled does nothing, and the focus goes back', async () => {
  await it.as(letters, async (page) => {
    await rows(page).first().waitFor();
    const before = await rows(page).count();
    const button = page.getByRole('button', { name: 'Replay all' });
    await button.click();
    await page.getByRole('dialog').getByText(/go back into the queue/).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await focused(button);
    assert.equal(await rows(page).count(), before);
  });
});

test('a dead letter is looked at, and replayed', async () => {
  await it.as(letters, async (page) => {
    const letter = await pageOf(rows(page).first());
    await link(rows(page).first()).click();
    await page.getByRole('heading', { level: 1, name: 'Dead letter', exact: true }).waitFor();
    await page.getByRole('table', { name: 'Properties of the dead letter' }).waitFor();
    await page.getByRole('button', { name: 'Replay' }).click();
    await answer(page, 'Replay');
    await said(page, '1 dead letter replayed.');
    await page.getByRole('heading', { level: 1, name: 'Dead letters', exact: true }).waitFor();
    await rows(page).first().waitFor();
    await gone(page, letter);
  });
});

test('a dead letter is discarded, and its values are forgotten', async () => {
  await it.as(letters, async (page) => {
    await link(rows(page).first()).click();
    await page.getByRole('button', { name: 'Discard' }).click();
    await answer(page, 'Discard');
    await said(page, '1 dead letter discarded.');
    await page.getByText('It is closed, and its values are forgotten.').waitFor();
    await counts(page.getByRole('button', { name: 'Replay' }), 0);
  });
});

test('those that are chosen are replayed, and no others', async () => {
  await it.as(letters, async (page) => {
    const [first, second, third] = await Promise.all([0, 1, 2].map((n) => pageOf(rows(page).nth(n))));
    await rows(page).nth(1).getByRole('checkbox').check();
    await page.getByRole('button', { name: 'Replay 1 chosen' }).click();
    await answer(page, 'Replay');
    await said(page, '1 dead letter replayed.');
    await gone(page, second);
    for (const other of [first, third]) await counts(page.locator(`a[href="${other}"]`), 1);
  });
});

test('a filter by user shows that user alone, outlives a reload, and does not stand in the address', async () => {
  await it.as(letters, async (page) => {
    const id = await idOf(rows(page).first());
    await page.getByLabel('Id, exactly').fill(id);
    await page.getByRole('button', { name: 'Search' }).click();
    await page.getByText(`of user ${id}`).waitFor();
    assert.ok(!page.url().includes(encodeURIComponent(id)));
    await page.reload();
    await page.getByText(`of user ${id}`).waitFor();
    await rows(page).first().waitFor();
    for (const shown of await rows(page).locator('th .id').allInnerTexts()) assert.equal(shown, id);
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.getByRole('button', { name: 'Replay all', exact: true }).waitFor();
  });
});

test('a filter that nothing matches says so, and leads back', async () => {
  await it.as(letters, async (page) => {
    await page.getByLabel('Id, exactly').fill('nobody-has-this-id');
    await page.getByRole('button', { name: 'Search' }).click();
    await page.getByText('None match.').waitFor();
    await page.getByRole('button', { name: 'Show all' }).click();
    await rows(page).first().waitFor();
  });
});

test('a filter by reason is what a replay of all that match is asked for', async () => {
  await it.as(letters, async (page) => {
    await page.getByLabel('Reason').selectOption('Bad row');
    await page.getByRole('button', { name: 'Replay all that match' }).click();
    await page.getByRole('dialog').getByText(/bad row/).waitFor();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  });
});

test('an export asks first, and downloads a line for each', async () => {
  await it.as(letters, async (page) => {
    await rows(page).first().waitFor();
    const before = await rows(page).count();
    await page.getByRole('button', { name: 'Export all' }).click();
    await page.getByRole('dialog').getByText(/personal data/).waitFor();
    const download = page.waitForEvent('download');
    await answer(page, 'Export');
    const lines = readFileSync(await (await download).path(), 'utf8').trim().split('\n');
    assert.ok(lines.length >= before);
    for (const line of lines) assert.ok(JSON.parse(line));
  });
});

test('an export of one user holds that user alone', async () => {
  await it.as(letters, async (page) => {
    const id = await idOf(rows(page).first());
    await page.getByLabel('Id, exactly').fill(id);
    await page.getByRole('button', { name: 'Search' }).click();
    await page.getByText(`of user ${id}`).waitFor();
    await page.getByRole('button', { name: 'Export all that match' }).click();
    const download = page.waitForEvent('download');
    await answer(page, 'Export');
    const lines = readFileSync(await (await download).path(), 'utf8').trim().split('\n');
    for (const line of lines) assert.equal(JSON.parse(line).subject.user_id, id);
  });
});

test('all are discarded only once the name of the app is typed', async () => {
  await it.as(letters, async (page) => {
    await page.getByRole('button', { name: 'Discard all' }).click();
    const dialog = page.getByRole('dialog');
    const button = dialog.getByRole('button', { name: 'Discard' });
    const app = await dialog.locator('.typed').innerText();
    assert.ok(await button.isDisabled());
    await dialog.getByRole('textbox').fill(`${app}x`);
    assert.ok(await button.isDisabled());
    await dialog.getByRole('textbox').fill(app);
    await shows(() => button.isEnabled(), true);
    await dialog.getByRole('button', { name: 'Cancel' }).click();
  });
});

test('a user is found from a dead letter, and forgotten once its id is typed', async () => {
  await it.as(letters, async (page) => {
    await link(rows(page).first()).click();
    const user = page.getByRole('region', { name: 'The record' }).getByRole('link').first();
    const id = await user.innerText();
    await user.click();
    await page.getByRole('heading', { level: 2, name: `User ${id}` }).waitFor();
    for (const name of ['Waits', 'In flight', 'Delivered', 'Dead letters']) {
      await page.getByRole('heading', { level: 3, name }).waitFor();
    }
    assert.ok(!page.url().includes(encodeURIComponent(id)));
    await page.getByRole('button', { name: /^Forget in / }).first().click();
    const button = page.getByRole('dialog').getByRole('button', { name: 'Forget' });
    assert.ok(await button.isDisabled());
    await answer(page, 'Forget', id);
    await said(page, 'The user is forgotten.');
    await page.getByRole('table', { name: 'What was erased' }).waitFor();
    await page.getByText('Nothing of this user is here.').waitFor();
  });
});

test('one who is not known is said not to be', async () => {
  await it.as({ path: '/find' }, async (page) => {
    await page.getByLabel('Id, exactly as it was sent').fill('nobody-has-this-id');
    await page.getByRole('button', { name: 'Find' }).click();
    await page.getByText('Nothing of this user is here.').waitFor();
  });
});

test('an app is paused, seen to be, and resumed', async () => {
  await it.as({ path: '/settings' }, async (page) => {
    await page.getByRole('button', { name: /^Pause/ }).first().click();
    await answer(page, 'Pause');
    await said(page, 'is paused.');
    await open(page, 'Overview');
    await page.getByRole('article').first().getByText('Paused', { exact: true }).waitFor();
    await open(page, 'Settings');
    await page.getByRole('button', { name: /^Resume/ }).first().click();
    await answer(page, 'Resume');
    await said(page, 'is resumed.');
    await page.getByRole('button', { name: /^Pause/ }).first().waitFor();
  });
});

test('an app is flushed', async () => {
  await it.as({ path: '/settings' }, async (page) => {
    await page.getByRole('button', { name: /^Flush now/ }).first().click();
    await page.getByRole('dialog').getByText(/as soon as its budget allows/).waitFor();
    await answer(page, 'Flush');
    await said(page, 'is told to flush.');
  });
});
