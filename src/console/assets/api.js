// The only way to the gateway: the session, the calls, and what their errors mean.

const BASE = '/console/api';

/** A call that was not answered as wished. Its message says what to do. */
export class ApiError extends Error {
  constructor(status, { code = 'UNKNOWN', message, fields = [] } = {}) {
    super(message || advice(status));
    this.status = status;
    this.code = code;
    this.fields = fields;
  }
}

let csrf = '';
let ended = () => {};

/** Calls `callback` when a call is refused because the session has ended. */
export function onSessionEnded(callback) {
  ended = callback;
}

/** The session, or null where a log-in is needed. What the page asks by itself is `background`: it
 * does not keep a session that nobody uses. */
export async function getSession(how = {}) {
  const answer = await send('GET', '/session', undefined, how);
  if (answer.status === 401) return null;
  return keep(await read(answer));
}

/** Begins a session. */
export async function logIn(token) {
  return keep(await read(await send('POST', '/login', { token })));
}

/** Ends the session. One that has ended already is no error. */
export async function logOut() {
  const answer = await send('POST', '/logout', {});
  csrf = '';
  if (!answer.ok && answer.status !== 401) await read(answer);
}

/** Calls a unary method of AdminService; `how` may hold a `signal` that ends it, and `background`. */
export async function rpc(method, request = {}, how = {}) {
  return read(await call(method, request, how));
}

/** Calls a method that streams: its answers, all of them. */
export async function rpcLines(method, request) {
  const answer = await call(method, request, {});
  if (!answer.ok) return read(answer);
  const lines = (await answer.text()).trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  // One that says what went wrong is the last.
  if (lines.at(-1)?.error) throw new ApiError(answer.status, lines.at(-1).error);
  return lines;
}

/** The events of the gateway. */
export const openEvents = () => new EventSource(`${BASE}/events`);

/** Where dead letters can be downloaded. */
export function exportAddress(app, { reason, includeClosed }) {
  const query = new URLSearchParams({ app });
  if (reason) query.set('reason', reason);
  if (includeClosed) query.set('include_closed', 'true');
  return `${BASE}/export/dead-letters?${query}`;
}

function keep(session) {
  csrf = session.csrf ?? '';
  return session;
}

async function call(method, request, how) {
  const ask = () => send('POST', `/rpc/${method}`, request, how);
  const answer = await ask();
  if (answer.status !== 401 && answer.status !== 403) return answer;
  if (await sessionIsAnother(how)) return ask();
  if (answer.status === 401) ended();
  return answer;
}

// Another tab may have logged in anew; and where nobody has to, a gateway that was restarted gives
// whoever comes a new session.
async function sessionIsAnother(how) {
  const before = csrf;
  const session = await getSession(how);
  return session !== null && csrf !== before;
}

async function send(method, path, body, { signal, background = false } = {}) {
  const headers = { accept: 'application/json' };
  if (background) headers['x-background'] = '1';
  if (method === 'POST') {
    headers['content-type'] = 'application/json';
    headers['x-csrf-token'] = csrf;
  }
  const options = { method, headers, signal, credentials: 'same-origin', cache: 'no-store' };
  if (body !== undefined) options.body = JSON.stringify(body);
  try {
    return await fetch(BASE + path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, { code: 'UNREACHABLE' });
  }
}

async function read(answer) {
  if (answer.status === 204) return {};
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // A page of a proxy in between, or an answer that was cut off.
  }
  if (answer.ok && body !== null) return body;
  if (answer.ok) throw new ApiError(answer.status, { message: 'The answer cannot be read. Reload.' });
  throw new ApiError(answer.status, {
    code: body?.code,
    message: body?.message || body?.error,
    fields: body?.fields,
  });
}

function advice(status) {
  if (status === 0) {
    return 'The gateway does not answer. See whether it runs and whether this network reaches it.';
  }
  if (status === 401) return 'The session has ended. Log in again.';
  if (status === 403) return 'That is for admins with the role "operator".';
  if (status === 429) return 'Too many attempts. Wait a minute and try again.';
  if (status >= 500) return `The gateway could not do it (${status}). Try again; its log says more.`;
  return `The gateway refused it (${status}).`;
}
