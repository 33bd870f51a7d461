// The gateway's state as it changes: by server-sent events, and by asking again where they fail.

import { getSession, openEvents, rpc } from './api.js';

const SILENCE_MS = 6000; // A status comes each second.
const POLL_MS = 2000;
const RETRY_MS_MAX = 15000;

let state = { status: null, connection: 'connecting', since: Date.now(), heard: 0 };
let source = null;
let failures = 0;
let timers = [];
let watchdog = 0;
let running = false;
let onEnded = () => {};
const watchers = new Set();
const samplers = new Set();

/** What is known now: `status`, `connection` ("connecting", "live", "lost", "polling"). */
export const current = () => state;

/** Calls `callback` at each change; the function returned ends that. */
export function watch(callback) {
  watchers.add(callback);
  return () => watchers.delete(callback);
}

/** Calls `callback` with each new sample of the history; the function returned ends that. */
export function onSample(callback) {
  samplers.add(callback);
  return () => samplers.delete(callback);
}

/** Begins to listen. `ended` is called when the session is over. */
export function start(ended) {
  stop();
  running = true;
  onEnded = ended;
  connect();
  watchdog = setInterval(() => {
    if (source && state.connection === 'live' && Date.now() - state.heard > SILENCE_MS) lose();
  }, 1000);
}

/** Stops listening. */
export function stop() {
  running = false;
  clearInterval(watchdog);
  close();
  failures = 0;
  change({ status: null, connection: 'connecting' });
}

/** Tries again at once. */
export function retry() {
  close();
  connect();
}

/** Asks for the state now, after something was changed. */
export async function refresh() {
  try {
    change({ status: (await rpc('GetStatus')).status, heard: Date.now() });
  } catch {
    // The next event brings it.
  }
}

function connect() {
  source = openEvents();
  source.addEventListener('status', (event) => {
    failures = 0;
    timers.forEach(clearTimeout);
    timers = [];
    const status = JSON.parse(event.data);
    change({ status: status.status ?? status, connection: 'live', heard: Date.now() });
  });
  source.addEventListener('sample', (event) => {
    const sample = JSON.parse(event.data);
    samplers.forEach((callback) => callback(sample));
  });
  source.addEventListener('error', lose);
}

// EventSource would try again by itself, but neither backs off nor says why it failed.
function lose() {
  close();
  if (!running) return;
  failures += 1;
  if (state.connection !== 'polling') change({ connection: 'lost' });
  later(connectAgain, Math.min(RETRY_MS_MAX, 500 * 2 ** failures));
  later(poll, 300);
}

function connectAgain() {
  if (running && !source) connect();
}

async function poll() {
  try {
    if ((await getSession()) === null) {
      if (running) onEnded();
      return;
    }
    const { status } = await rpc('GetStatus');
    if (!running || state.connection === 'live') return;
    change({ status, connection: failures > 1 ? 'polling' : state.connection, heard: Date.now() });
  } catch {
    if (running && state.connection === 'polling') change({ connection: 'lost' });
  }
  if (running && state.connection !== 'live') later(poll, POLL_MS);
}

function later(act, ms) {
  timers.push(setTimeout(act, ms));
}

function close() {
  timers.forEach(clearTimeout);
  timers = [];
  source?.close();
  source = null;
}

function change(what) {
  const since = what.connection && what.connection !== state.connection ? Date.now() : state.since;
  state = { ...state, ...what, since };
  watchers.forEach((callback) => callback(state));
}
