// One job: its rows, ids and attempts, and what happened when.

import { bytes, clock, absolute, count, duration, seconds, sentence, subjects } from './format.js';
import { outcome } from './health.js';
import { took } from './jobs.js';
import { address, jobAddress } from './route.js';
import { Badge, Empty, Facts, Heading, html, Loading, Moment, Problem, Table, useRpc } from './ui.js';

export function Job({ id, app }) {
  const asked = useRpc('GetJob', { app: app?.app ?? '', id }, { every: 2000 });
  const job = asked.data?.job;
  const missing = asked.error?.code === 'NOT_FOUND';
  return html`<nav aria-label="Way here" class="trail"><a href=${address('/jobs')}>Jobs</a></nav>
    <${Heading} title="Job">${job && html`<${Badge} ...${{ tone: outcome(job).tone }}>
      ${outcome(job).words}</${Badge}>`}</${Heading}>
    <p class="id whole">${id}</p>
    ${missing && html`<${Empty} title="This job is not known.">
      It may be of another app, or so old that it is forgotten (<code>history.jobs_max</code>).</${Empty}>`}
    ${!missing && html`<${Problem} error=${asked.error} retry=${asked.reload} />`}
    ${!asked.data && asked.loading && html`<${Loading} />`}
    ${job && html`<${Known} job=${job} />`}`;
}

function Known({ job }) {
  const running = job.state === 'JOB_STATE_RUNNING';
  return html`
    ${running && html`<progress class="wide" aria-label="Progress" max=${Number(job.rows) || 1}
      value=${Number(job.completed_rows)}></progress>`}
    ${job.last_error && html`<p class="note warn">What went wrong last: ${job.last_error}</p>`}
    <div class="three">
      <section class="panel" aria-labelledby="what"><h2 id="what">What is in it</h2><${Facts} pairs=${[
        ['Rows', subjects(job.rows, job.kind)],
        ['Completed', `${count(job.completed_rows)} of ${count(job.rows)}`],
        ['Updates', `${count(job.updates)}, coalesced into these rows`],
        ['Size', bytes(job.bytes)],
        ['Occupancy', job.occupancy && `${duration(seconds(job.occupancy))} of the budget`],
        ['Part of', job.parent_batch_id && html`<a class="id"
          href=${jobAddress(job.parent_batch_id)}>${job.parent_batch_id}</a>`],
      ]} /></section>
      <section class="panel" aria-labelledby="where"><h2 id="where">At Userpilot</h2><${Facts} pairs=${[
        ['Job id', job.job_id && html`<code>${job.job_id}</code>`],
        ['Request id', job.request_id && html`<code>${job.request_id}</code>`],
        ['File', html`<code>${`userpilot-gateway-${job.batch_id}.ndjson`}</code>`],
        ['Status there', job.upstream_status],
        ['Submitted', count(job.submissions) + (job.submissions === 1 ? ' time' : ' times')],
      ]} /></section>
      <section class="panel" aria-labelledby="when"><h2 id="when">When</h2><${Facts} pairs=${[
        ['Claimed', html`<${Moment} at=${job.claimed_at} />`],
        ['Submitted', job.submitted_at && html`<${Moment} at=${job.submitted_at} />`],
        ['Settled', job.settled_at && html`<${Moment} at=${job.settled_at} />`],
        [job.settled_at ? 'Took' : 'So far', job.submitted_at && took(job)],
      ]} /></section>
    </div>
    <${Events} events=${job.events ?? []} />`;
}

const between = (a, b) => duration((Date.parse(b.at) - Date.parse(a.at)) / 1000);

function Events({ events }) {
  if (events.length === 0) {
    return html`<section aria-labelledby="events"><h2 id="events">What happened</h2>
      <${Empty} title="Nothing is on record." /></section>`;
  }
  return html`<section aria-labelledby="events"><h2 id="events">What happened</h2>
    <${Table} caption="What happened, oldest first" hideCaption class="stacks">
      <thead><tr><th scope="col">When</th><th scope="col">After</th><th scope="col">What</th>
        <th scope="col">Detail</th><th scope="col">Request id</th></tr></thead>
      <tbody>${events.map((event, n) => html`<tr key=${n}>
        <td data-label="When"><time datetime=${event.at} title=${absolute(event.at)}>${clock(event.at)}</time></td>
        <td data-label="After">${n > 0 ? `+ ${between(events[n - 1], event)}` : ''}</td>
        <td data-label="What">${sentence(event.what)}</td>
        <td class="words" data-label="Detail">${event.detail}</td>
        <td data-label="Request id">${event.request_id && html`<code>${event.request_id}</code>`}</td>
      </tr>`)}</tbody></${Table}></section>`;
}
