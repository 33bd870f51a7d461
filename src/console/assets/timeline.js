// The jobs of an app as bars over time: from their submission over their occupancy of the budget,
// as high as they have rows. Colour, pattern and a word tell what became of them.

import { useState } from './vendor/preact-hooks.js';
import { clock, counted, duration, relative, seconds } from './format.js';
import { outcome } from './health.js';
import { go, jobAddress } from './route.js';
import { html, useWidth } from './ui.js';

const HEIGHT = 150;
const FLOOR = HEIGHT - 24;
const TOP = 14;
const BAR_MIN = 3;

const KEY = [
  ['running', 'under way'], ['ok', 'delivered'], ['warn', 'requeued'], ['paused', 'split'],
  ['bad', 'dead'],
];

export function Timeline({ jobs, span, app, cut }) {
  const [place, width] = useWidth();
  const [chosen, setChosen] = useState(null);
  const now = Date.now();
  const from = now - span * 1000;
  const bars = jobs.map((job) => bar(job, now)).filter((each) => each && each.until > from);
  const rows = Math.max(1, ...bars.map(({ job }) => Number(job.rows)));
  const x = (at) => ((Math.max(at, from) - from) / (now - from)) * width;
  // One row that died is to be seen beside a job of thousands.
  const y = ({ job, tone }) => (FLOOR - TOP) * Math.max(tone === 'ok' ? 0.06 : 0.2, Number(job.rows) / rows);
  const open = (job) => go(jobAddress(job.batch_id, { app }));
  const shown = bars.find(({ job }) => job.batch_id === chosen) ?? null;
  return html`<figure class="timeline">
    <figcaption class="hidden">Timeline of jobs. ${inWords(bars, span)} The table below has each of
      them.</figcaption>
    <ul class="legend">${KEY.map(([tone, word]) => html`<li key=${tone}>
      <svg width="20" height="12" aria-hidden="true"><rect width="20" height="12" rx="2"
        class=${`bar ${tone}`} /></svg>${word}</li>`)}
      <li><svg width="20" height="12" aria-hidden="true"><rect width="20" height="12" rx="2"
        class="occupancy" /></svg>occupies the budget</li></ul>
    <div class="plot" ref=${place} aria-hidden="true" onMouseLeave=${() => setChosen(null)}>
      <svg width=${width} height=${HEIGHT}>
        <${Patterns} />
        <line class="floor" x1="0" x2=${width} y1=${FLOOR + 0.5} y2=${FLOOR + 0.5} />
        <text class="scale" x="2" y=${TOP - 3}>${counted(rows, 'row')}</text>
        <line class="ceiling" x1="0" x2=${width} y1=${TOP} y2=${TOP} />
        ${width > 0 && ticks(from, now, width).map((at) => html`<g key=${at}>
          <line class="tick" x1=${x(at)} x2=${x(at)} y1=${FLOOR} y2=${FLOOR + 4} />
          <text class="scale" x=${x(at)} y=${HEIGHT - 4} text-anchor="middle">${clock(at).slice(0, 5)}</text>
        </g>`)}
        ${width > 0 && bars.map((each) => html`<${Bar} key=${each.job.batch_id} bar=${each} x=${x}
          high=${y(each)} chosen=${each.job.batch_id === chosen} choose=${setChosen} open=${open} />`)}
      </svg>
    </div>
    <p class="reading muted" aria-hidden="true">${shown ? reading(shown)
      : bars.length > 0 ? 'Point at a bar to read it; a click opens the job.' : 'No job in this time.'}
      ${!shown && cut && bars.length === jobs.length && ` These are the newest ${counted(jobs.length, 'job')}.`}</p>
  </figure>`;
}

function Bar({ bar: { job, since, ended, until, tone }, x, high, chosen, choose, open }) {
  const part = (kind, to) => html`<rect class=${kind} x=${x(since)} y=${FLOOR - high} rx="2"
    width=${wide(x(to) - x(since))} height=${high} />`;
  return html`<g class=${chosen ? 'job chosen' : 'job'} onMouseEnter=${() => choose(job.batch_id)}
    onClick=${() => open(job)}>${part('occupancy', until)}${part(`bar ${tone}`, ended)}</g>`;
}

function bar(job, now) {
  const began = job.submitted_at ?? job.claimed_at;
  if (!began) return null;
  const since = Date.parse(began);
  const ended = job.settled_at ? Date.parse(job.settled_at) : now;
  const free = since + (seconds(job.occupancy) ?? 0) * 1000;
  return { job, since, ended, until: Math.min(now, Math.max(ended, free)), ...outcome(job) };
}

const wide = (width) => Math.max(BAR_MIN, width - 1);

// Round times of day, about 90 pixels apart.
function ticks(from, now, width) {
  const steps = [60, 300, 600, 900, 1800, 3600, 10800, 21600];
  const wish = ((now - from) / 1000) * (90 / Math.max(width, 1));
  const step = (steps.find((each) => each >= wish) ?? 43200) * 1000;
  const zone = new Date(now).getTimezoneOffset() * 60000;
  const first = Math.ceil((from - zone) / step) * step + zone;
  const all = [];
  for (let at = first; at < now; at += step) all.push(at);
  const margin = ((now - from) / Math.max(width, 1)) * 20;
  return all.filter((at) => at > from + margin && at < now - margin);
}

function reading({ job, since, ended, words }) {
  const took = job.settled_at ? `took ${duration((ended - since) / 1000)}` : 'under way';
  const occupies = job.occupancy ? `, occupies the budget for ${duration(seconds(job.occupancy))}` : '';
  return `${clock(since)} (${relative(since)}): ${counted(job.rows, 'row')}, ${words}, ${took}${occupies}`;
}

function inWords(bars, span) {
  if (bars.length === 0) return `No job in the last ${duration(span)}.`;
  const tally = new Map();
  for (const { words } of bars) tally.set(words, (tally.get(words) ?? 0) + 1);
  const parts = [...tally].map(([words, n]) => `${n} ${words}`).join(', ');
  return `${counted(bars.length, 'job')} in the last ${duration(span)}: ${parts}.`;
}

// Drawn over each tone, so that they differ without their colour.
function Patterns() {
  const pattern = (id, path) => html`<pattern id=${`pattern-${id}`} width="8" height="8"
    patternUnits="userSpaceOnUse"><rect width="8" height="8" class=${`fill-${id}`} />
    <path d=${path} class="hatch" /></pattern>`;
  return html`<defs>
    ${pattern('warn', 'M-2 10L10 -2M-2 2L2 -2M6 10L10 6')}
    ${pattern('paused', 'M4 0V8')}
    ${pattern('bad', 'M0 0L8 8M8 0L0 8')}
    ${pattern('running', 'M0 4H8')}
  </defs>`;
}
