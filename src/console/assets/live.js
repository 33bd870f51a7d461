// The gateway's state as it changes: by server-sent events, and by asking again where they fail.

import { getSession, openEvents, rpc } from './api.js';

const SILENCE_MS = 6000; // A status comes each second, and the first at once.
const POLL_MS = 2000;
const RETRY_MS_MAX = 15000;

let state = { status: null, connection: 'connecting', since: Date.now(), heard: 0 };
let source = null;
let spoke = 0; // When the stream was opened, or last said something.
let silent = false; // It was given up since it said nothing.
let asking = false;
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
    if (source && Date.now() - spoke > SILENCE_MS) lose(true);
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
  spoke = Date.now();
  source.addEventListener('status', (event) => {
    failures = 0;
    spoke = Date.now();
    timers.forEach(clearTimeout);
    timers = [];
    const status = JSON.parse(event.data);
    change({ status: status.status ?? status, connection: 'live', heard: Date.now() });
  });
  source.addEventListener('sample', (event) => {
    const sample = JSON.parse(event.data);
    samplers.forEach((callback) => callback(sample));
  });
  source.addEventListener('error', () => lose(false));
}

// EventSource would try again by itself, but neither backs off nor says why it failed. And a proxy
// may hold back the events, or even the head of their answer, without any error.
function lose(bySilence) {
  silent = bySilence;
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
  // One that waits for its answer goes on by itself.
  if (asking) return;
  asking = true;
  try {
    const how = () => ({ signal: AbortSignal.timeout(SILENCE_MS), background: true });
    if ((await getSession(how())) === null) {
      if (running) onEnded();
      return;
    }
    const { status } = await rpc('GetStatus', {}, how());
    if (!running || state.connection === 'live') return;
    // A gateway that restarts fails once; one that answers this but not the stream is asked.
    const polls = silent || failures > 1;
    change({ status, connection: polls ? 'polling' : state.connection, heard: Date.now() });
  } catch {
    if (running && state.connection === 'polling') change({ connection: 'lost' });
  } finally {
    asking = false;
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
