// Jobs: a timeline, and a table of all that are remembered.

import { useState } from './vendor/preact-hooks.js';
import { bytes, count, duration, seconds } from './format.js';
import { outcome } from './health.js';
import { jobAddress } from './route.js';
import { Timeline } from './timeline.js';
import { Badge, Choice, Empty, Heading, html, Loading, Pager, Problem, Table, Time, usePages, useRpc } from './ui.js';

const PAGE = 25;
const TIMELINE_JOBS_MAX = 500;
const SPANS = [[600, '10 min'], [3600, '1 h'], [21600, '6 h'], [86400, '24 h']];

export function Jobs({ app }) {
  return app ? html`<${JobsOf} key=${app.app} app=${app.app} />`
    : html`<${Heading} title="Jobs" /><${Empty} title="No app is configured." />`;
}

function JobsOf({ app }) {
  const [wish, setWish] = useState(null);
  const pages = usePages(app);
  const recent = useRpc('ListJobs', { app, page_size: TIMELINE_JOBS_MAX }, { every: 15000 });
  const shown = useRpc('ListJobs', { app, page_size: PAGE, page_token: pages.token },
    { every: pages.number === 1 ? 3000 : 0 });
  const jobs = shown.data?.jobs ?? [];
  const drawn = united(pages.number === 1 ? jobs : [], recent.data?.jobs ?? []);
  const span = wish ?? fitting(drawn);
  return html`<${Heading} title="Jobs"><${Choice} legend="Span of the timeline" options=${SPANS}
      chosen=${span} choose=${setWish} /></${Heading}>
    <p class="lead">A job is what Userpilot makes of a batch of pending records. One runs at a time;
      after it, its rows occupy the budget of <strong>${app}</strong>.</p>
    <${Problem} error=${shown.error} retry=${shown.reload} />
    ${recent.data && html`<${Timeline} jobs=${drawn} span=${span} app=${app}
      cut=${Boolean(recent.data.next_page_token)} />`}
    ${!shown.data && shown.loading && html`<${Loading} />`}
    ${shown.data && jobs.length === 0 && pages.number === 1 && html`
      <${Empty} title="No job yet.">The first one is made when updates wait: send one with
        <code>userpilot-gateway send --user-id 42 --set plan=pro</code>.</${Empty}>`}
    ${jobs.length > 0 && html`<${JobTable} jobs=${jobs} app=${app} busy=${shown.loading} />
      <${Pager} pages=${pages} next=${shown.data.next_page_token} what="jobs" />`}`;
}

// The table is renewed more often than the whole timeline.
function united(newer, older) {
  const known = new Set(newer.map((job) => job.batch_id));
  return [...newer, ...older.filter((job) => !known.has(job.batch_id))];
}

// Where jobs are small or the gateway is young, an hour would press them into a corner.
function fitting(jobs) {
  const oldest = jobs.at(-1)?.claimed_at;
  return oldest && Date.now() - Date.parse(oldest) < SPANS[0][0] * 1000 ? SPANS[0][0] : SPANS[1][0];
}

function JobTable({ jobs, app, busy }) {
  return html`<${Table} caption=${`Jobs of ${app}, newest first`} busy=${busy} class="stacks">
    <thead><tr>
      <th scope="col">Batch</th><th scope="col">Outcome</th><th scope="col" class="number">Rows</th>
      <th scope="col" class="number">Updates</th><th scope="col" class="number">Size</th>
      <th scope="col">Submitted</th><th scope="col" class="number">Took</th>
      <th scope="col" class="number">Occupancy</th><th scope="col" class="number">Attempts</th>
    </tr></thead>
    <tbody>${jobs.map((job) => html`<${Row} key=${job.batch_id} job=${job} app=${app} />`)}</tbody>
  </${Table}>`;
}

function Row({ job, app }) {
  const { tone, words } = outcome(job);
  const companies = job.kind === 'SUBJECT_KIND_COMPANY';
  const going = job.state === 'JOB_STATE_RUNNING';
  return html`<tr>
    <th scope="row"><a class="id" href=${jobAddress(job.batch_id, { app })}>
      ${job.batch_id}</a></th>
    <td data-label="Outcome"><${Badge} tone=${tone}>${words}</${Badge}></td>
    <td class="number" data-label="Rows">${going && `${count(job.completed_rows)} of `}${count(job.rows)}
      ${companies && html`<span class="sub">companies</span>`}</td>
    <td class="number minor" data-label="Updates">${count(job.updates)}</td>
    <td class="number minor" data-label="Size">${bytes(job.bytes)}</td>
    <td data-label="Submitted"><${Time} at=${job.submitted_at} none="not yet" /></td>
    <td class="number" data-label="Took">${took(job)}</td>
    <td class="number" data-label="Occupancy">${duration(seconds(job.occupancy))}</td>
    <td class="number" data-label="Attempts">${count(job.submissions)}</td>
  </tr>`;
}

/** How long a job took or takes. */
export function took(job) {
  if (!job.submitted_at) return duration(null);
  const until = job.settled_at ? Date.parse(job.settled_at) : Date.now();
  return duration(Math.max(0, (until - Date.parse(job.submitted_at)) / 1000));
}
