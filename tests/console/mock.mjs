// A pretend gateway for the console: the contract with believable data that moves.
//
//     node tests/console/mock.mjs          # http://127.0.0.1:8899/console/
//
// PORT, MOCK_LOGIN=off (no log-in is asked for). Tokens: "operator-token", "reader-token".
// POST /mock/NAME sets a scenario (mock/scenarios.mjs); POST /mock/normal ends it.
import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { readFileSync, existsSync } from 'node:fs';
import { extname, join } from 'node:path';
import { argv, env } from 'node:process';
import { fileURLToPath } from 'node:url';
import { answer, Refused } from './mock/answers.mjs';
import { SCENARIOS } from './mock/scenarios.mjs';
import { World } from './mock/world.mjs';
import { assets } from './tools.mjs';

export const TOKENS = {
  'operator-token': { name: 'ada', role: 'operator' },
  'reader-token': { name: 'rolf', role: 'reader' },
};
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.md': 'text/plain; charset=utf-8',
};
const CSP = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const COOKIE = 'userpilot_gateway_session';
const READERS = ['GetStatus', 'WatchStatus', 'ListJobs', 'GetJob', 'ListDeadLetters', 'ListClients',
  'GetHistory', 'GetConfig'];
const HTTP = { NOT_FOUND: 404, INVALID_ARGUMENT: 400, PERMISSION_DENIED: 403, UNIMPLEMENTED: 501 };

/** Starts one; `close` stops it. */
export async function startMock({ port = 0, login = true } = {}) {
  const mock = {
    login, world: new World(), scenario: {}, sessions: new Map(), failures: 0, streams: new Set(), calls: [], ticks: 0,
  };
  mock.world.warmUp();
  const clock = setInterval(() => tick(mock), 500);
  const server = createServer((request, response) => {
    handle(mock, request, response).catch((error) => fail(response, error));
  });
  await new Promise((ready) => server.listen(port, '127.0.0.1', ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    mock,
    set: (name) => setScenario(mock, name),
    close: () => {
      clearInterval(clock);
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

function tick(mock) {
  for (const [id, session] of mock.sessions) {
    if (isOver(mock, session)) mock.sessions.delete(id);
  }
  for (const stream of mock.streams) {
    if (stream.session.id && !mock.sessions.has(stream.session.id)) stream.destroy();
  }
  mock.ticks += 1;
  if (mock.ticks % 2 === 1) return;
  const samples = mock.world.second();
  for (const stream of mock.streams) {
    if (mock.scenario.withheld) continue;
    stream.write(`event: status\ndata: ${JSON.stringify(statusOf(mock))}\n\n`);
    for (const sample of samples) stream.write(`event: sample\ndata: ${JSON.stringify(sample)}\n\n`);
  }
}

const statusOf = (mock) => (mock.scenario.status ?? ((status) => status))(mock.world.status());

function setScenario(mock, name) {
  if (!(name in SCENARIOS)) throw new Refused('NOT_FOUND', `no scenario ${name}`);
  mock.scenario = SCENARIOS[name];
  mock.failures = 0;
  if (mock.scenario.noEvents || mock.scenario.down || mock.scenario.withheld) cut(mock);
  if (mock.scenario.signedOut) {
    mock.sessions.clear();
    cut(mock);
  }
}

function cut(mock) {
  for (const stream of mock.streams) stream.destroy();
  mock.streams.clear();
}

async function handle(mock, request, response) {
  const url = new URL(request.url, 'http://gateway');
  response.setHeader('content-security-policy', CSP);
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('referrer-policy', 'same-origin');
  if (url.pathname === '/') return redirect(response);
  if (url.pathname.startsWith('/mock/')) {
    setScenario(mock, url.pathname.slice('/mock/'.length));
    return json(response, 200, {});
  }
  if (url.pathname.startsWith('/console/api/')) return api(mock, request, response, url);
  return asset(response, url.pathname);
}

function redirect(response) {
  response.writeHead(303, { location: '/console/' }).end();
}

function asset(response, path) {
  if (!path.startsWith('/console')) return json(response, 404, { error: 'not here' });
  const name = path.slice('/console/'.length);
  const file = join(assets, name.includes('.') && !name.includes('..') ? name : 'index.html');
  if (!existsSync(file)) return json(response, 404, { error: 'not here' });
  response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'text/plain', 'cache-control': 'no-cache' });
  response.end(readFileSync(file));
}

async function api(mock, request, response, url) {
  if (mock.scenario.down) return json(response, 503, { code: 'UNAVAILABLE', message: '' });
  const path = url.pathname.slice('/console/api'.length);
  if (path === '/login') return logIn(mock, response, await body(request));
  const session = sessionOf(mock, request, path);
  if (session && path !== '/events' && !request.headers['x-background']) session.asked = Date.now();
  if (!session) return json(response, 401, { error: 'Log in with an admin token.' });
  if (path === '/session') return json(response, 200, shown(mock, session));
  if (path === '/events') return events(mock, request, response, session);
  if (path === '/export/dead-letters') return exportLetters(mock, response, session, url);
  if (request.headers['x-csrf-token'] !== session.csrf) {
    return json(response, 403, { code: 'PERMISSION_DENIED', message: 'The x-csrf-token is not this session’s.' });
  }
  if (path === '/logout') {
    mock.sessions.delete(session.id);
    return response.writeHead(204, { 'set-cookie': `${COOKIE}=; Path=/console; Max-Age=0` }).end();
  }
  const method = path.slice('/rpc/'.length);
  mock.calls.push(method);
  permit(session, method);
  if (method === 'GetStatus') return json(response, 200, { status: statusOf(mock) });
  const from = (mock.scenario.answers ?? {})[method];
  const asked = await body(request);
  if (method === 'ExportDeadLetters') {
    const { dead_letters: letters } = answer(mock.world, 'ListDeadLetters', { ...asked, page_size: 1000 });
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    return response.end(letters.map((letter) => `${JSON.stringify({ dead_letter: letter })}\n`).join(''));
  }
  return json(response, 200, from ? from(asked, mock.world) : answer(mock.world, method, asked));
}

function permit(session, method) {
  if (session.role === 'operator' || READERS.includes(method)) return;
  throw new Refused('PERMISSION_DENIED', `${method} is for admins with the role "operator"`);
}

function logIn(mock, response, { token }) {
  if (mock.failures >= 5) return json(response, 429, { error: 'Too many attempts. Wait a minute.' });
  const who = TOKENS[token];
  if (!who) {
    mock.failures += 1;
    return json(response, 401, { error: 'No admin has this token.' });
  }
  mock.failures = 0;
  const [id, csrf] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];
  const session = { ...who, id, csrf, asked: Date.now() };
  mock.sessions.set(session.id, session);
  response.setHeader('set-cookie', `${COOKIE}=${session.id}; HttpOnly; SameSite=Strict; Path=/console`);
  return json(response, 200, shown(mock, session));
}

const ANYONE = { name: 'anyone', role: 'operator', csrf: 'csrf-of-anyone', id: '' };

// Whoever asks for the session of a gateway that was restarted gets a new one; until then there is none.
function anyone(mock, path) {
  if (!mock.restarted) return ANYONE;
  if (path === '/session') mock.renewed = { ...ANYONE, csrf: 'csrf-of-anyone-after-the-restart' };
  return mock.renewed;
}

function sessionOf(mock, request, path) {
  if (!mock.login) return anyone(mock, path);
  const cookie = (request.headers.cookie ?? '').match(new RegExp(`${COOKIE}=([0-9a-f]+)`));
  return cookie && mock.sessions.get(cookie[1]);
}

const isOver = (mock, { asked }) => mock.idleMs !== undefined && Date.now() - asked > mock.idleMs;

const shown = (mock, { name, role, csrf }) => ({ name, role, csrf, login_required: mock.login });

function events(mock, request, response, session) {
  if (mock.scenario.noEvents) return json(response, 503, { message: 'no events' });
  response.session = session;
  mock.streams.add(response);
  request.on('close', () => mock.streams.delete(response));
  if (mock.scenario.withheld === 'all') return;
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  if (mock.scenario.withheld) return response.flushHeaders();
  response.write(`event: status\ndata: ${JSON.stringify(statusOf(mock))}\n\n`);
}

function exportLetters(mock, response, session, url) {
  permit(session, 'ExportDeadLetters');
  const { dead_letters: letters } = answer(mock.world, 'ListDeadLetters', {
    app: url.searchParams.get('app'), page_size: 1000, filter: { reason: url.searchParams.get('reason') ?? '' },
  });
  response.writeHead(200, {
    'content-type': 'application/x-ndjson',
    'content-disposition': 'attachment; filename="dead-letters.ndjson"',
  });
  response.end(letters.map((letter) => `${JSON.stringify(letter)}\n`).join(''));
}

async function body(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

function json(response, status, what) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(what));
}

function fail(response, error) {
  if (error instanceof Refused) {
    return json(response, HTTP[error.code] ?? 500, { code: error.code, message: error.message, fields: [] });
  }
  console.error(error);
  return json(response, 500, { code: 'INTERNAL', message: String(error) });
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startMock({ port: Number(env.PORT ?? 8899), login: env.MOCK_LOGIN !== 'off' });
  console.log(`${url}/console/`);
}
