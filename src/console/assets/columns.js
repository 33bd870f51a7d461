// The history's columns: made whole, kept up, and made calm enough to be read.

import { seconds } from './format.js';

export const COLUMNS = ['time', 'accepted', 'coalesced', 'suppressed', 'delivered', 'refused',
  'pending_records', 'oldest_pending_seconds', 'freshness_p50_seconds', 'freshness_p99_seconds'];
const POINTS_MAX = 720;
const MEANS = ['accepted', 'coalesced', 'suppressed', 'delivered', 'refused'];

/** What GetHistory answers, with each column there and null where nothing was delivered. */
export function clean(answer) {
  const length = answer.time?.length ?? 0;
  const columns = COLUMNS.map((name) => {
    const column = answer[name] ?? new Array(length).fill(0);
    return [name, isSparse(name) ? column.map(known) : column];
  });
  return {
    ...Object.fromEntries(columns),
    interval: seconds(answer.interval) ?? 5,
    budget_per_second: answer.budget_per_second ?? 0,
  };
}

/** The same with one sample more, and the oldest gone where there are too many. */
export function append(before, sample) {
  const time = only(sample.time);
  if (before.time.length > 0 && !(time > before.time.at(-1))) return before;
  const after = { ...before };
  for (const name of COLUMNS) {
    const value = only(sample[name]) ?? 0;
    after[name] = [...before[name], isSparse(name) ? known(value) : value].slice(-POINTS_MAX);
  }
  return after;
}

/** Fewer points: each of `wide` seconds, at times that stay the same as others are added. Rates are
 * means, freshness is the worst, the rest is as it was at the end. */
export function thin(columns, wide) {
  const bins = [];
  columns.time.forEach((time, n) => {
    const bin = Math.ceil(time / wide - 1e-9);
    if (bins.at(-1)?.bin !== bin) bins.push({ bin, from: n });
    bins.at(-1).to = n + 1;
  });
  const thinned = { ...columns };
  for (const name of COLUMNS) {
    thinned[name] = bins.map(({ from, to }) => {
      const part = columns[name].slice(from, to);
      if (MEANS.includes(name)) return mean(part);
      return isSparse(name) ? worst(part) : part.at(-1);
    });
  }
  return thinned;
}

/** The mean of each point and those of the `wide` seconds before it: what comes in lumps, as the rows
 * of jobs do, can then be compared with a budget. */
export function trailing(time, column, wide) {
  let from = 0;
  let sum = 0;
  return column.map((value, n) => {
    sum += value;
    while (time[n] - time[from] >= wide) {
      sum -= column[from];
      from += 1;
    }
    return Math.max(0, sum / (n - from + 1));
  });
}

/** What an axis goes up to: a little more than the highest value; of a column of nothing, enough for
 * marks that differ. */
export const reach = (high) => 1.08 * (high > 0 ? Math.max(high, 0.001) : 1);

/** How far apart the marks of an axis may be that counts. */
export const WHOLE_STEPS = Array.from({ length: 13 }, (_, n) => [1, 2, 5].map((step) => step * 10 ** n)).flat();

const isSparse = (name) => name.startsWith('freshness');
const known = (n) => (n === null || n < 0 ? null : n);
const only = (column) => (Array.isArray(column) ? column.at(-1) : column);
const mean = (part) => part.reduce((sum, n) => sum + n, 0) / part.length;

function worst(part) {
  const there = part.filter((n) => n !== null);
  return there.length > 0 ? Math.max(...there) : null;
}
