// How numbers, times and names look, everywhere the same.

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 2 });

export const DASH = '–';

/** 12345 → "12,345". */
export const count = (n) => whole.format(Number(n ?? 0));

/** count(1, 'row') → "1 row", count(2, 'row') → "2 rows". */
export function counted(n, one, many = `${one}s`) {
  return `${count(n)} ${Number(n) === 1 ? one : many}`;
}

/** Of something a second: fine where it is small. */
export function rate(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  const size = Math.abs(n);
  if (size >= 100) return `${whole.format(n)}/s`;
  return `${size >= 10 ? tenths.format(n) : hundredths.format(n)}/s`;
}

/** 0.421 → "42 %". */
export const share = (n) => `${whole.format(100 * (n ?? 0))} %`;

/** 1536 → "1.5 KiB". */
export function bytes(n) {
  let size = Number(n ?? 0);
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (size < 1024) return `${tenths.format(size)} ${unit}`;
    size /= 1024;
  }
  return `${tenths.format(size)} TiB`;
}

/** Protobuf's "1.5s" in seconds, or null. */
export function seconds(text) {
  if (text === null || text === undefined || text === '') return null;
  const n = Number.parseFloat(text);
  return Number.isFinite(n) ? n : null;
}

const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

/** 200 → "3 min 20 s": at most two units. */
export function duration(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return DASH;
  if (n <= 0) return '0 s';
  if (n < 1) return `${Math.max(1, Math.round(n * 1000))} ms`;
  if (n < 10) return `${tenths.format(n)} s`;
  const total = Math.round(n);
  const first = UNITS.findIndex(([size]) => total >= size);
  const [size, name] = UNITS[first];
  const head = `${whole.format(Math.floor(total / size))} ${name}`;
  const next = UNITS[first + 1];
  const rest = next ? Math.floor((total % size) / next[0]) : 0;
  return rest > 0 ? `${head} ${rest} ${next[1]}` : head;
}

/** A duration as an axis has room for: one unit. */
export function shortDuration(n) {
  if (n === null || n === undefined) return '';
  for (const [size, name] of [[86400, 'd'], [3600, 'h'], [60, 'min']]) {
    if (n >= size) return `${tenths.format(n / size)} ${name}`;
  }
  return n >= 1 || n === 0 ? `${tenths.format(n)} s` : `${whole.format(n * 1000)} ms`;
}

/** 1200000 → "1.2 M": for axes. */
export function shortCount(n) {
  if (n === null || n === undefined) return '';
  if (Math.abs(n) >= 1e6) return `${tenths.format(n / 1e6)} M`;
  if (Math.abs(n) >= 1e4) return `${tenths.format(n / 1e3)} k`;
  return hundredths.format(n);
}

const clockTime = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const full = new Intl.DateTimeFormat('en-GB', {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit',
  second: '2-digit', hourCycle: 'h23', timeZoneName: 'short',
});

/** The time of day, to the second. */
export const clock = (date) => clockTime.format(new Date(date));

/** Date and time with its zone. */
export const absolute = (date) => full.format(new Date(date));

/** "3 min 20 s ago", "42 min ago", "in 5 s". */
export function relative(date, now = Date.now()) {
  const away = (new Date(date).getTime() - now) / 1000;
  const long = Math.round(Math.abs(away));
  if (long === 0) return 'now';
  const words = duration(long >= 600 && long < 3600 ? long - (long % 60) : long);
  return away < 0 ? `${words} ago` : `in ${words}`;
}

/** The time of day, with the date where it is not today's. */
export function moment(date, now = new Date()) {
  const day = (at) => new Date(at).toDateString();
  return day(date) === day(now) ? clock(date) : absolute(date);
}

/** 1 → "1 user": rows by what they are about. */
export const subjects = (n, kind) => (kind === 'SUBJECT_KIND_COMPANY'
  ? counted(n, 'company', 'companies') : counted(n, 'user'));

/** 'APP_STATE_SLOT_TAKEN' → "slot taken". */
export function word(name, prefix) {
  return (name ?? '').replace(prefix, '').replaceAll('_', ' ').toLowerCase();
}

/** Capital first. */
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : text);

/** A JSON value as text, and what type it has. */
export function value(json) {
  if (json === null) return { text: 'null', type: 'null' };
  if (Array.isArray(json)) return { text: JSON.stringify(json), type: 'list' };
  if (typeof json === 'object') return { text: JSON.stringify(json), type: 'object' };
  if (typeof json === 'number') return { text: String(json), type: 'number' };
  return { text: String(json), type: typeof json === 'boolean' ? 'boolean' : 'text' };
}

/** What kind of subject it is, and its id. */
export function subjectOf(subject) {
  if (subject?.company_id) return { kind: 'company', id: subject.company_id };
  return { kind: 'user', id: subject?.user_id ?? '' };
}

/** The Subject message of a kind and an id. */
export const subject = (kind, id) => (kind === 'company' ? { company_id: id } : { user_id: id });
