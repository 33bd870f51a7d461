// What the state of an app means for who looks after it.

import { word } from './format.js';

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

/** How an app is: a tone for the eye, and words. */
export function health(app) {
  let tone = TONES[app.state] ?? 'warn';
  if (tone === 'ok' && app.halted_kinds?.length > 0) tone = 'warn';
  const state = word(app.state, 'APP_STATE_');
  const words = tone === 'paused' ? HEALTH.paused : `${HEALTH[tone]}: ${state}`;
  return { tone, words };
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
