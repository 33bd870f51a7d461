// A browser, and a console to open in it: the one at CONSOLE_URL, else a pretend gateway.
//
// CONSOLE_URL        the address of an admin listener, such as http://127.0.0.1:50052
// CONSOLE_TOKEN      an operator's token
// CONSOLE_READER_TOKEN  a reader's token
// CHROMIUM           the browser's path
import { env } from 'node:process';
import { startMock } from './mock.mjs';
import { require } from './tools.mjs';

const { chromium } = require('playwright-core');

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const SIZES = { wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } };

/** Where the console is, and who may log in. `mock` is null where a real gateway is tested. */
export async function openGateway(options) {
  if (env.CONSOLE_URL) {
    const { CONSOLE_URL: url, CONSOLE_TOKEN: token, CONSOLE_READER_TOKEN: readerToken } = env;
    return { url: url.replace(/\/$/, ''), token, readerToken, mock: null, set: () => {}, close: async () => {} };
  }
  return { ...(await startMock(options)), token: 'operator-token', readerToken: 'reader-token' };
}

export const launch = () => chromium.launch({
  executablePath: env.CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS,
});

/** A new visitor. `faults` collects what no visit may have: console errors, failed scripts, requests
 * to elsewhere; `expected` are patterns of console errors that a test provokes. */
export async function visit(browser, gateway, {
  size = 'wide', theme = 'light', expected = [], timeout = 10000,
} = {}) {
  const context = await browser.newContext({
    viewport: SIZES[size], colorScheme: theme, reducedMotion: 'reduce', acceptDownloads: true,
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(timeout);
  const faults = [];
  page.on('console', (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (message.type() === 'error' && !expected.some((each) => each.test(text))) faults.push(text);
  });
  // Of some the browser tells no console.
  await page.addInitScript(() => addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
    console.error(`violates ${violatedDirective}: ${blockedURI}`);
  }));
  page.on('pageerror', (error) => faults.push(String(error)));
  const { origin } = new URL(gateway.url);
  page.on('request', (request) => {
    const to = request.url();
    if (!to.startsWith(`${origin}/`) && !to.startsWith('data:')) faults.push(`request to ${to}`);
  });
  return { page, context, faults, at: (path) => `${gateway.url}/console${path}` };
}

// A visitor without a session is told so by a 401, which the browser reports as an error.
export const NOT_LOGGED_IN = /401 .*\/api\/session/;

/** A visitor who is logged in. */
export async function enter(browser, gateway, { token = gateway.token, path = '/', expected = [], ...options } = {}) {
  const visitor = await visit(browser, gateway, { ...options, expected: [NOT_LOGGED_IN, ...expected] });
  await visitor.page.goto(visitor.at(path));
  if (token) {
    await visitor.page.getByLabel('Admin token').fill(token);
    await visitor.page.getByRole('button', { name: 'Log in' }).click();
  }
  const pages = visitor.page.getByRole('navigation', { name: 'Pages', exact: true, includeHidden: true });
  await pages.waitFor({ state: 'attached' });
  await visitor.page.getByRole('heading', { level: 1 }).waitFor();
  return visitor;
}
