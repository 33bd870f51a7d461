// What the state of an app means for who looks after it.

import { word } from './format.js';

// As the alert UserpilotGatewayQueueNearlyFull has it.
const NEARLY_FULL = 0.8;

const TONES = {
  APP_STATE_IDLE: 'ok',
  APP_STATE_LINGERING: 'ok',
  APP_STATE_SUBMITTING: 'ok',
  APP_STATE_RUNNING: 'ok',
  APP_STATE_OCCUPIED: 'ok',
  APP_STATE_BACKING_OFF: 'warn',
  APP_STATE_SLOT_TAKEN: 'warn',
  APP_STATE_LOOKING_FOR_JOB: 'warn',
  APP_STATE_ISOLATING: 'warn',
  APP_STATE_PAUSED: 'paused',
  APP_STATE_KEY_REJECTED: 'bad',
  APP_STATE_HALTED: 'bad',
};

const HEALTH = { ok: 'Healthy', warn: 'Troubled', paused: 'Paused', bad: 'Stopped' };

/** How an app is: a tone for the eye, words, and a sentence. Whether its updates are taken comes first. */
export function health(app, status) {
  if (!status.ready) {
    const sentence = `Updates are refused: ${status.not_ready_reason}. ${app.summary}`;
    return { tone: 'bad', words: 'Refuses updates', sentence };
  }
  const sentence = app.summary;
  const tone = TONES[app.state] ?? 'warn';
  const trouble = tone === 'ok' ? troubleOf(app, status) : null;
  if (trouble) return { tone: 'warn', words: `${HEALTH.warn}: ${trouble}`, sentence };
  const state = word(app.state, 'APP_STATE_');
  return { tone, words: tone === 'paused' ? HEALTH.paused : `${HEALTH[tone]}: ${state}`, sentence };
}

// What an app that goes on is in trouble with all the same.
function troubleOf(app, { store, config_problem: refused }) {
  const near = (n, max) => Number(max) > 0 && Number(n) > NEARLY_FULL * Number(max);
  if (near(app.pending_records, store?.pending_records_max) || near(app.pending_bytes, store?.pending_bytes_max)) {
    return 'the queue is nearly full';
  }
  if (app.halted_kinds?.length > 0) return word(app.state, 'APP_STATE_');
  return refused ? 'the new configuration is refused' : null;
}

const OUTCOMES = {
  JOB_STATE_CLAIMED: 'idle',
  JOB_STATE_SUBMITTING: 'running',
  JOB_STATE_RUNNING: 'running',
  JOB_STATE_DELIVERED: 'ok',
  JOB_STATE_REQUEUED: 'warn',
  JOB_STATE_SPLIT: 'paused',
  JOB_STATE_DEAD: 'bad',
};

/** How a job is: a tone, and its state as a word. */
export function outcome(job) {
  return { tone: OUTCOMES[job.state] ?? 'idle', words: word(job.state, 'JOB_STATE_') };
}
