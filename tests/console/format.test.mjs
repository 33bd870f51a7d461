// What formats and columns do, without a browser.
import assert from 'node:assert/strict';
import test from 'node:test';
import { append, clean, reach, thin, trailing, WHOLE_STEPS } from '../../src/console/assets/columns.js';
import * as format from '../../src/console/assets/format.js';
import { health } from '../../src/console/assets/health.js';
import { World } from './mock/world.mjs';

test('a duration has at most two units', () => {
  const check = (seconds, text) => assert.equal(format.duration(seconds), text);
  check(null, '–');
  check(0, '0 s');
  check(0.85, '850 ms');
  check(4.21, '4.2 s');
  check(59.6, '1 min');
  check(200, '3 min 20 s');
  check(3600, '1 h');
  check(7500, '2 h 5 min');
  check(400_000, '4 d 15 h');
});

test('numbers have separators and their noun its number', () => {
  assert.equal(format.count(1_234_567), '1,234,567');
  assert.equal(format.counted(1, 'row'), '1 row');
  assert.equal(format.counted(2000, 'row'), '2,000 rows');
  assert.equal(format.subjects(1, 'SUBJECT_KIND_COMPANY'), '1 company');
  assert.equal(format.bytes(1536), '1.5 KiB');
  assert.equal(format.rate(0.333), '0.33/s');
  assert.equal(format.rate(1234.5), '1,235/s');
});

test('times are told from now', () => {
  const now = Date.parse('2026-01-02T12:00:00Z');
  const check = (at, text) => assert.equal(format.relative(at, now), text);
  check('2026-01-02T12:00:00Z', 'now');
  check('2026-01-02T11:59:55Z', '5 s ago');
  check('2026-01-02T11:18:21Z', '41 min ago');
  check('2026-01-02T12:01:30Z', 'in 1 min 30 s');
});

test('protobuf durations are read, and what is none is null', () => {
  assert.equal(format.seconds('1.500s'), 1.5);
  assert.equal(format.seconds(undefined), null);
  assert.equal(format.seconds(''), null);
});

test('a value shows its type', () => {
  assert.deepEqual(format.value(null), { text: 'null', type: 'null' });
  assert.deepEqual(format.value('3'), { text: '3', type: 'text' });
  assert.deepEqual(format.value([1]), { text: '[1]', type: 'list' });
});

const answer = () => clean({
  interval: '5s', time: [5, 10, 15, 20], accepted: [1, 3, 5, 7], pending_records: [9, 8, 7, 6],
  freshness_p50_seconds: [-1, 2, -1, -1], freshness_p99_seconds: [-1, 4, 6, -1], budget_per_second: 30,
});

test('where nothing was delivered there is no freshness', () => {
  assert.deepEqual(answer().freshness_p50_seconds, [null, 2, null, null]);
});

test('a sample is added once, and an older one never', () => {
  const sample = { app: 'a', time: [25], accepted: [9], freshness_p50_seconds: [-1] };
  const after = append(answer(), sample);
  assert.deepEqual(after.accepted, [1, 3, 5, 7, 9]);
  assert.equal(after.freshness_p50_seconds.at(-1), null);
  assert.equal(append(after, sample), after);
});

test('the hour stays an hour long', () => {
  let columns = answer();
  for (let time = 25; time < 5000; time += 5) columns = append(columns, { time, accepted: 1 });
  assert.equal(columns.time.length, 720);
  assert.equal(columns.accepted.length, 720);
});

test('thinned rates are means, a backlog is as it was last, freshness is the worst', () => {
  const thinned = thin(answer(), 10);
  assert.deepEqual(thinned.time, [10, 20]);
  assert.deepEqual(thinned.accepted, [2, 6]);
  assert.deepEqual(thinned.pending_records, [8, 6]);
  assert.deepEqual(thinned.freshness_p99_seconds, [4, 6]);
});

test('a lump of rows is spread over the time it is averaged over', () => {
  assert.deepEqual(trailing([5, 10, 15, 20], [0, 0, 30, 0], 10), [0, 0, 15, 15]);
  assert.deepEqual(trailing([5, 10, 15, 20], [30, 0, 0, 0], 10), [30, 15, 0, 0]);
});

test('the axis of nothing has marks that differ', () => {
  for (const high of [0, null, undefined]) {
    const step = WHOLE_STEPS.find((each) => reach(high) / each <= 200 / 36);
    const marks = [0, step].map(format.shortCount);
    assert.deepEqual(marks, ['0', '1']);
  }
  assert.ok(reach(0.0002) < 0.002 && reach(500) > 500 && reach(500) < 600);
  assert.ok(WHOLE_STEPS.every(Number.isInteger) && WHOLE_STEPS.at(-1) > 1e12);
});

test('an app is healthy only where its updates are taken, have room, and go on', () => {
  const store = { pending_records_max: '100', pending_bytes_max: '1000' };
  const check = (app, status, words) => assert.equal(
    health({ state: 'APP_STATE_RUNNING', ...app }, { ready: true, store, ...status }).words, words);
  check({}, {}, 'Healthy: running');
  check({ pending_records: '80', pending_bytes: '800' }, {}, 'Healthy: running');
  check({ pending_records: '81' }, {}, 'Troubled: the queue is nearly full');
  check({ pending_bytes: '801' }, {}, 'Troubled: the queue is nearly full');
  check({}, { config_problem: 'x: y' }, 'Troubled: the new configuration is refused');
  check({ halted_kinds: ['SUBJECT_KIND_USER'] }, {}, 'Troubled: running');
  check({ state: 'APP_STATE_PAUSED' }, { config_problem: 'x: y' }, 'Paused');
  const refusing = { ready: false, not_ready_reason: 'the disk is nearly full' };
  check({ state: 'APP_STATE_IDLE' }, refusing, 'Refuses updates');
  const idle = { state: 'APP_STATE_IDLE', summary: 'Nothing waits.' };
  assert.equal(health(idle, refusing).sentence, 'Updates are refused: the disk is nearly full. Nothing waits.');
  assert.equal(health(idle, { ready: true }).sentence, 'Nothing waits.');
  check({ pending_records: '81' }, { store: undefined }, 'Healthy: running');
});

test('the pretend gateway shows nothing that cannot be', () => {
  const world = new World();
  for (const client of world.clients) {
    assert.ok(['LANE_INTERACTIVE', 'LANE_BULK'].includes(client.lane), `${client.name}: ${client.lane}`);
  }
  for (const letter of world.apps.flatMap(({ letters }) => letters)) {
    const sequences = letter.last_sequence - letter.first_sequence + 1;
    assert.ok(letter.updates === 1 ? sequences === 1 : sequences >= letter.updates, letter.id);
  }
});
