// Two apps that live: one with a backlog that drains and grows, one that is halted.
import { deadLetters } from './letters.mjs';

export const OPENING = '9f3c51d2a80b7e46';
const STEP = 5;
const random = seeded(20260815);

const COLUMNS = ['time', 'accepted', 'coalesced', 'suppressed', 'delivered', 'refused', 'pending_records',
  'oldest_pending_seconds', 'freshness_p50_seconds', 'freshness_p99_seconds'];
const NAMES = ['claimed', 'submitted', 'accepted', 'completed'];

export class World {
  constructor() {
    this.started = Date.now() - 26 * 3600 * 1000;
    this.sequence = 48_201_377;
    this.apps = [
      app('production', 0, { rows: 2600, perMinute: 1800, inflow: 34 }),
      app('marketing-emea', 1, { rows: 18_240, perMinute: 600, inflow: 3, halted: true }),
    ];
    this.clients = clients();
    for (const each of this.apps) each.letters = deadLetters(each.name, each.number, each.halted ? 43 : 7);
  }

  /** A day of jobs and history before now. */
  warmUp() {
    const now = Date.now();
    for (const each of this.apps) {
      let at = now - 5.6 * 3600 * 1000;
      const last = each.halted ? now - 71 * 60 * 1000 : now - 40 * 1000;
      while (at < last) at = pastJob(each, at) + 4000 + random() * 20000;
      each.day = past(each, now, 60, 1440);
      each.hour = past(each, now, STEP, 720);
    }
  }

  /** One second passes. The new samples, if some came. */
  second() {
    this.count = (this.count ?? 0) + 1;
    for (const each of this.apps) step(each, this);
    for (const client of this.clients) send(client);
    if (this.count % STEP !== 0) return [];
    return this.apps.map((each) => sample(each));
  }

  status() {
    return {
      version: '0.6.0', started_at: iso(this.started), ready: true, not_ready_reason: '',
      store: {
        engine: 'sled', last_sequence: this.sequence, disk_bytes: 1_842_135_040,
        quarantined_records: 0, free_bytes: 214_748_364_800, pending_records_max: 5_000_000,
        pending_bytes_max: 4_294_967_296,
      },
      apps: this.apps.map(statusOf),
      config_problem: '',
    };
  }

  app(name) {
    return this.apps.find((each) => each.name === name);
  }
}

function app(name, number, { rows, perMinute, inflow, halted = false }) {
  return {
    name, number, perMinute, inflow, halted, paused: false, pending: rows, oldest: halted ? 4264 : 93,
    jobs: [], next: 4200, current: null, free: 0, delivered: 0, totals: { accepted: 8_120_441, rows: 2_914_870 },
  };
}

function step(each, world) {
  const now = Date.now();
  const arrived = Math.round(each.inflow * (0.6 + 0.8 * random()));
  each.totals.accepted += arrived;
  world.sequence += arrived;
  each.pending += Math.round(arrived * 0.58);
  each.oldest += 1;
  if (each.halted || each.paused) return;
  const job = each.current;
  if (job) {
    job.completed_rows = Math.min(job.rows, job.completed_rows + Math.ceil(job.rows / 22));
    if (job.completed_rows < job.rows) return;
    settle(each, job, now);
  } else if (now >= each.free && each.pending > 200) {
    const rows = Math.min(each.pending, 1200 + Math.round(random() * 500));
    each.pending -= rows;
    each.oldest = Math.min(each.oldest, 20 + each.pending / 30);
    each.current = newJob(each, now, rows);
    each.jobs.unshift(each.current);
  }
}

function settle(each, job, now) {
  job.state = 'JOB_STATE_DELIVERED';
  job.upstream_status = 'completed';
  job.settled_at = iso(now);
  job.events.push(event(now, 'completed', '', `200: completed, ${job.rows} of ${job.rows}`));
  each.free = Date.parse(job.submitted_at) + seconds(job.occupancy) * 1000;
  each.delivered = job.rows;
  each.totals.rows += job.rows;
  each.current = null;
}

function newJob(each, at, rows, kind = 'SUBJECT_KIND_USER') {
  const batch = `${OPENING}-${each.number}-${(each.next += 1)}`;
  const request = `req_${hex(12)}`;
  const id = `job_${hex(16)}`;
  const details = ['', `POST bulk_identify, ${rows} rows`, `202: ${id}`];
  return {
    app: each.name, batch_id: batch, job_id: id, state: 'JOB_STATE_RUNNING', upstream_status: 'processing',
    rows, completed_rows: 0, updates: Math.round(rows * 2.4), bytes: rows * 214,
    claimed_at: iso(at - 240), submitted_at: iso(at), submissions: 1, request_id: request, last_error: '',
    kind, occupancy: `${(rows / each.perMinute) * 60}s`, parent_batch_id: '',
    events: NAMES.slice(0, 3).map((what, n) => event(at - 240 + n * 260, what, n === 2 ? request : '', details[n])),
  };
}

// A job that is over; returns when the budget is free again.
function pastJob(each, at) {
  const rows = Math.round(300 + random() * random() * 4000);
  const job = newJob(each, at, rows, random() < 0.1 ? 'SUBJECT_KIND_COMPANY' : 'SUBJECT_KIND_USER');
  const ended = at + 3000 + rows * 9;
  const luck = random();
  const [state, what, detail] = luck < 0.9 ? ['JOB_STATE_DELIVERED', 'completed', '200: completed']
    : luck < 0.94 ? ['JOB_STATE_REQUEUED', 'requeued', 'the job failed upstream: internal error']
      : luck < 0.97 ? ['JOB_STATE_SPLIT', 'split', '422: 1 row is invalid; into 2 batches']
        : ['JOB_STATE_DEAD', 'dead', '422: metadata.seats must be a number'];
  Object.assign(job, { state, settled_at: iso(ended), completed_rows: rows, upstream_status: 'completed' });
  if (state !== 'JOB_STATE_DELIVERED') {
    const dead = state === 'JOB_STATE_DEAD';
    const parent = `${OPENING}-${each.number}-${each.next - 1}`;
    const size = dead ? { rows: 1, updates: 3, bytes: 268, parent_batch_id: parent } : {};
    Object.assign(job, { ...size, completed_rows: 0, last_error: detail, submissions: 2, upstream_status: 'failed' });
    job.events.splice(2, 0, event(at + 400, 'refused', `req_${hex(12)}`, '503: upstream is busy'));
  }
  job.events.push(event(ended, what, '', detail));
  each.jobs.unshift(job);
  return at + (job.rows / each.perMinute) * 60000;
}

function past(each, now, interval, points) {
  const history = Object.fromEntries(COLUMNS.map((name) => [name, []]));
  const base = each.perMinute / 60;
  let backlog = each.pending;
  for (let n = points; n > 0; n -= 1) {
    const at = now / 1000 - n * interval;
    const wave = 1 + 0.45 * Math.sin(at / (interval * 70)) + 0.15 * Math.sin(at / (interval * 11));
    const accepted = each.inflow * wave * (0.85 + 0.3 * random());
    const stopped = each.halted && at > now / 1000 - 71 * 60;
    const delivered = stopped ? 0 : base * Math.min(1, 0.62 + 0.3 * wave * random());
    const ends = !stopped && (interval > 30 || n % 9 === 0);
    const oldest = 20 + Math.max(0, wave) * 60 + random() * 8;
    backlog = stopped ? each.pending - (n * interval * each.inflow * 0.58) : each.pending * (0.4 + 0.5 * wave);
    const row = [at, accepted, accepted * 0.42, accepted * 0.11, delivered, 0, Math.max(0, Math.round(backlog)),
      stopped ? 71 * 60 - n * interval : oldest, ends ? oldest * 0.7 : -1, ends ? oldest * 1.5 : -1];
    Object.keys(history).forEach((name, column) => history[name].push(row[column]));
  }
  return history;
}

function sample(each) {
  const accepted = each.inflow * (0.85 + 0.3 * random());
  const fresh = each.delivered > 0;
  const row = [Date.now() / 1000, accepted, accepted * 0.42, accepted * 0.11, each.delivered / STEP, 0,
    each.pending, each.oldest, fresh ? each.oldest * 0.7 : -1, fresh ? each.oldest * 1.5 : -1];
  each.delivered = 0;
  Object.keys(each.hour).forEach((name, column) => each.hour[name].push(row[column]));
  return { app: each.name, ...Object.fromEntries(Object.keys(each.hour).map((name, n) => [name, [row[n]]])) };
}

function statusOf(each) {
  const job = each.current;
  const left = Math.max(0, (each.free - Date.now()) / 1000);
  const [state, summary] = each.halted
    ? ['APP_STATE_HALTED', 'Userpilot refuses everything (404: no such environment); tries again in 41 s.']
    : each.paused ? ['APP_STATE_PAUSED', 'Paused by an operator.']
      : job ? ['APP_STATE_RUNNING', `A job of ${job.rows} users runs; ${job.completed_rows} done.`]
        : left > 0 ? ['APP_STATE_OCCUPIED', `The last job has ended; the budget is free again in ${Math.ceil(left)} s.`]
          : ['APP_STATE_LINGERING', `${each.pending} updates wait for others to join them.`];
  return {
    app: each.name, state, summary, paused: each.paused, pending_records: each.pending,
    pending_bulk_records: Math.round(each.pending * 0.31), pending_bytes: each.pending * 231,
    ...(each.pending > 0 && { oldest_pending_age: `${each.oldest}s` }),
    drain_eta: `${left + (each.pending / each.perMinute) * 60}s`, draining: !each.halted && !each.paused,
    ...(job && { current_job: job }), users_per_minute: each.perMinute, occupancy_remaining: `${left}s`,
    failed_attempts: each.halted ? 14 : 0,
    ...(each.halted && { retry_at: iso(Date.now() + 41000), failing_since: iso(Date.now() - 71 * 60 * 1000) }),
    last_error: each.halted ? '404: no such environment' : '',
    totals: {
      accepted_updates: each.totals.accepted, coalesced_updates: Math.round(each.totals.accepted * 0.42),
      refused_updates: 0, delivered_rows: each.totals.rows, completed_jobs: each.jobs.length,
      failed_attempts: each.halted ? 14 : 2, conflicts: 3, dead_rows: each.letters.length, suppressed_updates: 80_114,
    },
    dead_letters: each.letters.filter(({ state: open }) => open === 'DEAD_LETTER_STATE_OPEN').length,
    pending_companies: Math.round(each.pending * 0.02), halted_kinds: each.halted ? ['SUBJECT_KIND_USER'] : [],
    pending_express_records: each.halted ? 0 : 3, express_in_flight_records: 1,
    utilisation: each.halted ? 0 : 0.83,
    ...(!each.halted && { freshness_p50: '48.2s', freshness_p99: '141.5s' }),
    job_users_target: 1500, fixed_cost: '4.1s', in_flight_records: job?.rows ?? 0, held_reason: '',
  };
}

function clients() {
  const one = (name, lane, inflow, more = {}) => ({
    name, apps: ['production'], lane, weight: 1, updates_per_second_max: 0, pending_records_max: 0, inflow,
    pending_records: Math.round(inflow * 31), oldest_pending_age: `${20 + inflow}s`,
    accepted_updates: Math.round(inflow * 90000),
    suppressed: 0.08, passed_requests: 0, freshness_p50: '44.1s', freshness_p99: '130.7s', refused: [],
    last_update_at: iso(Date.now()), ...more,
  });
  return [
    one('web-app', 'LANE_INTERACTIVE', 21, { weight: 4 }),
    one('billing', 'LANE_INTERACTIVE', 1.2, { pending_records: 3, oldest_pending_age: '0.4s',
      freshness_p50: '0.9s', freshness_p99: '2.1s' }),
    one('crm-sync', 'LANE_BULK', 9, { apps: ['production', 'marketing-emea'], updates_per_second_max: 50,
      pending_records: 19_350, pending_records_max: 20_000,
      refused: [{ reason: 'rate_limited', updates: 12_440 }, { reason: 'queue_full', updates: 118 }] }),
    one('mailer', 'LANE_INTERACTIVE', 3.4, { refused: [{ reason: 'invalid', updates: 9 }], passed_requests: 210 }),
    one('legacy-import', 'LANE_BULK', 0, { oldest_pending_age: undefined, accepted_updates: 0, freshness_p50: undefined,
      freshness_p99: undefined, last_update_at: undefined }),
  ];
}

function send(client) {
  client.accepted_updates += Math.round(client.inflow * (0.5 + random()));
  if (client.inflow > 0) client.last_update_at = iso(Date.now());
}

export const iso = (at) => new Date(at).toISOString();
export const seconds = (text) => Number.parseFloat(text);
const event = (at, what, request, detail) => ({ at: iso(at), what, request_id: request, detail });
const hex = (length) => Array.from({ length }, () => Math.floor(random() * 16).toString(16)).join('');

/** The same numbers at each start. */
export function seeded(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return state / 4294967296;
  };
}

