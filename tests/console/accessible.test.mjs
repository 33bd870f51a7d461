// Every page in both themes and on a phone: axe-core finds nothing serious, nothing runs out of the
// page, and the keyboard reaches everything.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { NOT_LOGGED_IN, visit } from './browser.mjs';
import { fixture, focused, shows } from './fixture.mjs';
import { require } from './tools.mjs';

const it = fixture();
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const PAGES = ['/', '/jobs', '/clients', '/dead-letters', '/find', '/settings', '/nothing-here'];

// Playwright evaluates past the page's CSP, so that axe needs no leave to run.
async function scan(page, what) {
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const options = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] };
    const { violations: found } = await window.axe.run(document, options);
    return found.filter(({ impact }) => ['serious', 'critical', 'moderate'].includes(impact))
      .map(({ id, nodes: [{ html, failureSummary }] }) => `${id}: ${html} ${failureSummary}`);
  });
  assert.deepEqual(violations, [], what);
}

async function fits(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${what} is ${wide} px too wide`);
}

async function look(page, what) {
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.getByText('Loading …').first().waitFor({ state: 'detached' });
  await fits(page, what);
  await scan(page, what);
}

// Chromium keeps what a table is where it is drawn as blocks; others may not.
test('on a phone a table says of each part what it is', async () => {
  await it.as({ path: '/clients', size: 'narrow' }, async (page) => {
    const table = page.getByRole('table').first();
    await table.waitFor();
    const bare = await table.evaluate((element) => [element, ...element.querySelectorAll('thead, tbody, tr, th, td')]
      .filter((part) => !part.hasAttribute('role')).map((part) => part.outerHTML.slice(0, 80)));
    assert.deepEqual(bare, []);
    const roles = await table.evaluate((element) => ['th[scope=col]', 'th[scope=row]', 'td', 'tr', 'tbody']
      .map((part) => element.querySelector(part).getAttribute('role')));
    assert.deepEqual(roles, ['columnheader', 'rowheader', 'cell', 'row', 'rowgroup']);
  });
});

for (const theme of ['light', 'dark']) {
  for (const size of ['wide', 'narrow']) {
    test(`every page is sound, ${theme} and ${size}`, async () => {
      await it.as({ theme, size }, async (page, { at }) => {
        for (const path of PAGES) {
          await page.goto(at(path));
          await look(page, `${path} ${theme} ${size}`);
        }
        await page.goto(at('/jobs'));
        await page.locator('tbody a').nth(1).click();
        await page.getByRole('heading', { name: 'What happened' }).waitFor();
        await look(page, `a job ${theme} ${size}`);
        await page.goto(at('/dead-letters'));
        const id = await page.locator('tbody th .id').first().innerText();
        await page.getByRole('link', { name: /^Look/ }).first().click();
        await page.getByRole('heading', { name: 'Properties' }).waitFor();
        await look(page, `a dead letter ${theme} ${size}`);
        await page.getByRole('button', { name: 'Discard' }).click();
        await look(page, `a dialog ${theme} ${size}`);
        await page.keyboard.press('Escape');
        await page.goto(at('/find'));
        await page.getByLabel('Id, exactly as it was sent').fill(id);
        await page.getByRole('button', { name: 'Find' }).click();
        await page.getByRole('heading', { name: 'Waits' }).waitFor();
        await look(page, `a user ${theme} ${size}`);
      });
    });
  }

  test(`the log-in is sound, ${theme}`, async () => {
    const options = { theme, size: 'narrow', expected: [NOT_LOGGED_IN] };
    const { page, context, at } = await visit(it.browser, it.gateway, options);
    await page.goto(at('/'));
    await look(page, `log-in ${theme}`);
    await context.close();
  });
}

test('long names break, and do not widen a phone’s page', { skip: Boolean(process.env.CONSOLE_URL) }, async () => {
  it.gateway.set('long-names');
  await it.as({ size: 'narrow' }, async (page, { at }) => {
    for (const path of PAGES) {
      await page.goto(at(path));
      await look(page, `${path} with long names`);
    }
  });
  it.gateway.set('normal');
});

test('the first tab stop skips to the content, and the menu opens by keyboard', async () => {
  await it.as({ size: 'narrow' }, async (page) => {
    await page.reload();
    await page.getByRole('article').first().waitFor();
    await page.keyboard.press('Tab');
    const skip = page.getByRole('link', { name: 'Skip to the content' });
    await focused(skip);
    await page.keyboard.press('Enter');
    await focused(page.locator('#main'));
    const menu = page.getByRole('button', { name: 'Menu' });
    await menu.focus();
    await page.keyboard.press('Enter');
    await shows(() => menu.getAttribute('aria-expanded'), 'true');
    await page.getByRole('link', { name: 'Jobs' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Jobs', exact: true }).waitFor();
    await focused(page.locator('#heading'));
  });
});
