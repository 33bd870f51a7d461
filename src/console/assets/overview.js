// Overview: how each app is, and how the chosen one has been.

import { bytes, count, counted, duration, seconds, share, subjects } from './format.js';
import { health } from './health.js';
import { History } from './history.js';
import { address, jobAddress } from './route.js';
import { Badge, Empty, Facts, Heading, html, Moment, Time } from './ui.js';

export function Overview({ app, status }) {
  return html`<${Heading} title="Overview" />
    ${status.apps.length === 0 && html`<${Empty} title="No app is configured.">
      Name one in <code>[[apps]]</code> of the configuration and restart.</${Empty}>`}
    <div class="cards">${status.apps.map((each) => html`
      <${Card} key=${each.app} app=${each} status=${status} chosen=${each.app === app?.app}
        several=${status.apps.length > 1} />`)}</div>
    ${app && html`<${History} key=${app.app} app=${app.app} />`}
    <${Store} status=${status} />`;
}

function Card({ app, status, chosen, several }) {
  const { tone, words, sentence } = health(app, status);
  const here = `app-${app.app}`;
  return html`<article class="card ${tone} ${several && chosen ? 'chosen' : ''}" aria-labelledby=${here}>
    <header><h2 id=${here}>${several
      ? html`<a href=${address('/', { app: app.app })} aria-current=${chosen ? 'true' : undefined}>${app.app}</a>`
      : app.app}</h2>
      <${Badge} tone=${tone}>${words}</${Badge}></header>
    <p class="summary">${sentence}</p>
    <${Trouble} app=${app} />
    <${Figures} app=${app} />
    <${Running} app=${app} />
    <${Details} app=${app} />
  </article>`;
}

// What the summary does not say already. While another's job holds the slot, nothing fails: what did
// before is told again where it still does.
function Trouble({ app }) {
  if (!app.failing_since || app.state === 'APP_STATE_SLOT_TAKEN') return null;
  const told = app.summary.includes(app.last_error);
  const retry = app.retry_at && !app.summary.includes('tries again');
  return html`<p class="trouble">Failing since <${Moment} at=${app.failing_since} />${retry &&
    html`, tried again <${Time} at=${app.retry_at} />`}${told ? '.' : `: ${app.last_error}`}</p>`;
}

function Figures({ app }) {
  const oldest = seconds(app.oldest_pending_age);
  return html`<dl class="figures">
    <div><dt>Pending</dt><dd>${count(app.pending_records)}</dd></div>
    <div><dt>Oldest waiting</dt><dd>${duration(oldest)}</dd></div>
    <div><dt>${drained(app)}</dt><dd>${Number(app.pending_records) > 0
      ? duration(seconds(app.drain_eta)) : duration(null)}</dd></div>
    <div class=${Number(app.dead_letters) > 0 ? 'bad' : ''}><dt>Dead letters</dt>
      <dd><a href=${address('/dead-letters', { app: app.app })}>${count(app.dead_letters)}</a></dd></div>
  </dl>`;
}

// From now on, or from when it goes again.
const drained = ({ draining, pending_records: pending }) => (draining || Number(pending) === 0
  ? 'Drained in' : 'Draining takes');

function Running({ app }) {
  const job = app.current_job;
  if (!job) return html`<p class="job muted">No job is in flight.</p>`;
  const rows = Number(job.rows);
  const done = Number(job.completed_rows);
  const known = job.state === 'JOB_STATE_RUNNING';
  const all = subjects(rows, job.kind);
  const doing = known ? `${count(done)} of ${all}` : `${all}, being submitted`;
  return html`<div class="job">
    <p><a href=${jobAddress(job.batch_id, { app: app.app })}>Running job</a>
      <span>${doing}</span></p>
    <progress aria-label=${`Progress of the job of ${app.app}`} max=${rows || 1}
      value=${known ? done : undefined}></progress>
  </div>`;
}

function Details({ app }) {
  const { slot_holder: holder } = app;
  const parts = [
    [app.pending_bulk_records, 'bulk'], [app.pending_express_records, 'express'],
    [app.pending_companies, 'of companies'],
  ].filter(([n]) => Number(n) > 0).map(([n, what]) => `${count(n)} ${what}`);
  const left = seconds(app.occupancy_remaining) ?? 0;
  return html`<${Facts} pairs=${[
    ['Slot', holder ? html`held by job <code>${holder.job_id}</code>${holder.filename &&
      html` (<code>${holder.filename}</code>)`}${holder.is_gateway && ', of another gateway'}` : null],
    ['Budget', html`${count(app.users_per_minute)} a minute${app.utilisation != null &&
      `, ${share(app.utilisation)} of it used in the last hour`}${left > 0 &&
      `; free again in ${duration(left)}`}`],
    ['Of the pending', parts.length > 0 ? `${parts.join(', ')} (${bytes(app.pending_bytes)})` : null],
    ['Freshness', app.freshness_p50 ? `half within ${duration(seconds(app.freshness_p50))}, 99 % within
      ${duration(seconds(app.freshness_p99))}, of the last hour` : null],
    ['Next job', Number(app.job_users_target) > 0 ? `made for ${counted(app.job_users_target, 'row')}` : null],
    ['In flight', Number(app.in_flight_records) > 0 ? counted(app.in_flight_records, 'record') : null],
  ]} />`;
}

function Store({ status }) {
  const { store } = status;
  return html`<section aria-labelledby="gateway"><h2 id="gateway">Gateway</h2>
    <${Facts} pairs=${[
      ['Version', status.version],
      ['Started', html`<${Time} at=${status.started_at} />`],
      ['Takes updates', status.ready ? 'yes' : `no: ${status.not_ready_reason}`],
      ['Store', store && html`${store.engine}, ${bytes(store.disk_bytes)} on disk${
        store.free_bytes != null && `, ${bytes(store.free_bytes)} free`}`],
      ['Last sequence', store && count(store.last_sequence)],
    ]} /></section>`;
}
