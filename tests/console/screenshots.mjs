// Pictures of each page to look at: node tests/console/screenshots.mjs FOLDER [NAME…]
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { enter, launch, openGateway, visit } from './browser.mjs';

const [folder, ...only] = argv.slice(2);
mkdirSync(folder, { recursive: true });

const PAGES = {
  overview: '/', jobs: '/jobs', clients: '/clients', 'dead-letters': '/dead-letters?app=marketing-emea',
  find: '/find', settings: '/settings',
};

const gateway = await openGateway();
const browser = await launch();
const settle = (page) => page.waitForTimeout(900);

async function shoot(page, name) {
  await settle(page);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

async function all(size, theme) {
  const wanted = (name) => only.length === 0 || only.includes(name);
  const name = (page) => `${page}-${size}-${theme}`;
  if (wanted('login')) {
    const { page, context, at } = await visit(browser, gateway, { size, theme });
    await page.goto(at('/'));
    await shoot(page, name('login'));
    await context.close();
  }
  const { page, context, at } = await enter(browser, gateway, { size, theme });
  for (const [title, path] of Object.entries(PAGES)) {
    if (!wanted(title)) continue;
    await page.goto(at(path));
    await page.getByRole('heading', { level: 1 }).waitFor();
    if (title === 'find') {
      await page.getByLabel('Id, exactly as it was sent').fill('u_20418');
      await page.getByRole('button', { name: 'Find', exact: true }).click();
    }
    await shoot(page, name(title));
  }
  if (wanted('job')) {
    await page.goto(at('/jobs'));
    const troubled = page.locator('tbody tr', { hasText: /requeued|split|dead/ });
    await troubled.or(page.locator('tbody tr')).first().getByRole('link').click();
    await shoot(page, name('job'));
  }
  if (wanted('dead-letter')) {
    await page.goto(at('/dead-letters?app=production'));
    await page.getByRole('link', { name: 'Look' }).first().click();
    await shoot(page, name('dead-letter'));
  }
  if (wanted('dialog')) {
    await page.goto(at('/dead-letters?app=production'));
    await page.getByRole('button', { name: 'Discard all' }).click();
    await settle(page);
    await page.screenshot({ path: join(folder, `${name('dialog')}.png`) });
  }
  if (wanted('menu') && size === 'narrow') {
    await page.goto(at('/'));
    await page.getByRole('button', { name: 'Menu' }).click();
    await settle(page);
    await page.screenshot({ path: join(folder, `${name('menu')}.png`) });
  }
  await context.close();
}

for (const size of ['wide', 'narrow']) for (const theme of ['light', 'dark']) await all(size, theme);
await browser.close();
await gateway.close();
