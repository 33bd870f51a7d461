// What an app's last hour or day was like: asked for once, then kept up by samples.

import { useEffect, useState } from './vendor/preact-hooks.js';
import { count, duration, rate, shortCount, shortDuration } from './format.js';
import { Chart } from './charts.js';
import { append, clean, thin, trailing, WHOLE_STEPS } from './columns.js';
import { onSample } from './live.js';
import { Choice, Empty, html, Loading, Problem, useRpc } from './ui.js';

// Of each span: its length, how wide a point is, and over what time deliveries are averaged.
const SPANS = {
  HISTORY_RESOLUTION_HOUR: { span: 3600, point: 15, mean: 300 },
  HISTORY_RESOLUTION_DAY: { span: 86400, point: 300, mean: 1800 },
};
const LABELS = [['HISTORY_RESOLUTION_HOUR', 'Last hour'], ['HISTORY_RESOLUTION_DAY', 'Last day']];

const RATES = [
  { name: 'Accepted', color: 'blue', width: 2 },
  { name: 'Coalesced', color: 'teal', dash: 'dash' },
  { name: 'Suppressed', color: 'violet', dash: 'dot' },
  { name: 'Delivered', color: 'green', width: 2.5 },
  { name: 'Budget', color: 'red', dash: 'long' },
];
const BACKLOG = [{ name: 'Pending', color: 'blue', fill: true, width: 2 }];
const OLDEST = [{ name: 'Oldest', color: 'orange', fill: true, width: 2 }];
const DURATION_STEPS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800,
  3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const FRESHNESS = [
  { name: 'p50', color: 'teal', points: true },
  { name: 'p99', color: 'violet', dash: 'dash', points: true },
];

export function History({ app }) {
  const [resolution, setResolution] = useState('HISTORY_RESOLUTION_HOUR');
  const { data, error, loading, reload } = useHistory(app, resolution);
  return html`<section aria-labelledby="history">
    <div class="heading"><h2 id="history">Over time: ${app}</h2>
      <${Choice} legend="Span" options=${LABELS} chosen=${resolution} choose=${setResolution} /></div>
    <${Problem} error=${error} retry=${reload} />
    ${!data && loading && html`<${Loading} />`}
    ${data && (data.time.length < 2
      ? html`<${Empty} title="Nothing has been recorded yet.">The history is kept since the gateway
          started; the first points come within seconds.</${Empty}>`
      : html`<${Charts} data=${data} of=${SPANS[resolution]} />`)}
  </section>`;
}

function useHistory(app, resolution) {
  const hour = resolution === 'HISTORY_RESOLUTION_HOUR';
  const every = hour ? 0 : 60000;
  const asked = useRpc('GetHistory', { app, resolution }, { every });
  const [data, setData] = useState(null);
  useEffect(() => setData(asked.data && !asked.loading ? clean(asked.data) : null), [asked.data, asked.loading]);
  useEffect(() => {
    if (!hour) return undefined;
    return onSample((sample) => {
      if (sample.app === app) setData((before) => before && append(before, sample));
    });
  }, [app, hour]);
  return { ...asked, data };
}

function Charts({ data: all, of: { span, point, mean } }) {
  const data = thin(all, point);
  const delivered = trailing(data.time, data.delivered, mean);
  const budget = data.time.map(() => data.budget_per_second);
  const last = (name) => data[name].at(-1);
  const lastKnown = (name) => data[name].findLast((n) => n !== null) ?? null;
  const words = (n) => duration(n);
  return html`<div class="charts">
    <${Chart} title="Rates" note=${`delivered: mean of ${duration(mean)}`} span=${span}
      series=${RATES} show=${rate} tick=${shortCount}
      data=${[data.time, data.accepted, data.coalesced, data.suppressed, delivered, budget]}
      sentence=${`Now ${rate(last('accepted'))} accepted, of these ${rate(last('coalesced'))}
        coalesced and ${rate(last('suppressed'))} suppressed; ${rate(delivered.at(-1))}
        delivered, as the mean of ${duration(mean)}, of a budget of ${rate(data.budget_per_second)}.`} />
    <${Chart} title="Backlog" span=${span} series=${BACKLOG} show=${count} tick=${shortCount} steps=${WHOLE_STEPS}
      data=${[data.time, data.pending_records]}
      sentence=${`Now ${count(last('pending_records'))} records are pending.`} />
    <${Chart} title="Oldest waiting" span=${span} series=${OLDEST} show=${words}
      tick=${shortDuration} steps=${DURATION_STEPS} data=${[data.time, data.oldest_pending_seconds]}
      sentence=${`Now the oldest has waited for ${duration(last('oldest_pending_seconds'))}.`} />
    <${Chart} title="Freshness of what was delivered" span=${span} series=${FRESHNESS} show=${words}
      tick=${shortDuration} steps=${DURATION_STEPS}
      data=${[data.time, data.freshness_p50_seconds, data.freshness_p99_seconds]}
      sentence=${lastKnown('freshness_p50_seconds') === null ? 'Nothing was delivered in this time.'
        : `Last, half of the rows were delivered within ${duration(lastKnown('freshness_p50_seconds'))}
          and 99 % within ${duration(lastKnown('freshness_p99_seconds'))}.`} />
  </div>`;
}
