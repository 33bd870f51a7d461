// Clients: who sends how much, waits how long, is refused why.

import { useEffect, useRef, useState } from './vendor/preact-hooks.js';
import { count, duration, rate, seconds, share, word } from './format.js';
import { Empty, Heading, html, Loading, Problem, Table, Time, useRpc } from './ui.js';

const EVERY_MS = 2000;
const WINDOW_MS = 12000;

export function Clients() {
  const asked = useRpc('ListClients', {}, { every: EVERY_MS });
  const rates = useRates(asked.data);
  const clients = asked.data?.clients ?? [];
  return html`<${Heading} title="Clients" />
    <p class="lead">Who sends updates, of all apps. Totals are since the gateway started; rates are
      of the last seconds.</p>
    <${Problem} error=${asked.error} retry=${asked.reload} />
    ${!asked.data && asked.loading && html`<${Loading} />`}
    ${asked.data && clients.length === 0 && html`<${Empty} title="No client is known yet.">
      A client is one of <code>[[clients]]</code> in the configuration, and stands here once it is
      there or has sent something.</${Empty}>`}
    ${clients.length > 0 && html`<${Table} caption="Clients, in the order of the configuration" class="stacks">
      <thead><tr>
        <th scope="col">Client</th>
        <th scope="col" class="number">Sends</th><th scope="col" class="number">Accepted</th>
        <th scope="col" class="number">Pending</th><th scope="col" class="number">Oldest waits</th>
        <th scope="col" class="number">Freshness</th><th scope="col">Refused</th>
        <th scope="col">Last update</th>
      </tr></thead>
      <tbody>${clients.map((client) => html`<${Row} key=${client.name} client=${client}
        now=${rates.get(client.name)} />`)}</tbody></${Table}>`}`;
}

function Row({ client, now }) {
  const limit = Number(client.updates_per_second_max);
  const pending = Number(client.pending_records);
  const room = Number(client.pending_records_max);
  const near = room > 0 && pending > 0.9 * room;
  return html`<tr>
    <th scope="row">${client.name}<span class="sub">${word(client.lane, 'LANE_')}${
      Number(client.weight) > 1 && `, weight ${client.weight}`}</span>
      <span class="sub">${client.apps?.join(', ')}</span></th>
    <td class="number" data-label="Sends">${rate(now)}
      ${limit > 0 && html`<span class="sub">at most ${rate(limit)}</span>`}</td>
    <td class="number" data-label="Accepted">${count(client.accepted_updates)}
      <${Part} of=${client} n=${client.coalesced_updates} what="coalesced" />
      <${Part} of=${client} n=${client.suppressed_updates} what="suppressed" />
      ${Number(client.passed_requests) > 0 && html`<span class="sub"
        title="Requests of Userpilot’s API that were passed on as they came">and
        ${count(client.passed_requests)} passed on</span>`}</td>
    <td class=${near ? 'number warn' : 'number'} data-label="Pending">${count(pending)}${room > 0 && html`<span
      class="sub">of ${count(room)}${near && html`<br />nearly full`}</span>`}</td>
    <td class="number" data-label="Oldest waits">${duration(seconds(client.oldest_pending_age))}</td>
    <td class="number" data-label="Freshness"><${Freshness} of=${client} /></td>
    <td data-label="Refused"><${Refused} refused=${client.refused ?? []} /></td>
    <td data-label="Last update"><${Time} at=${client.last_update_at} none="never" /></td>
  </tr>`;
}

function Freshness({ of }) {
  if (!of.freshness_p50) return duration(null);
  return html`p50 ${duration(seconds(of.freshness_p50))}
    <span class="sub">p99 ${duration(seconds(of.freshness_p99))}</span>`;
}

function Part({ of, n, what }) {
  const all = Number(of.accepted_updates);
  if (all === 0 || Number(n) === 0) return null;
  return html`<span class="sub">${share(Number(n) / all)} ${what}</span>`;
}

function Refused({ refused }) {
  if (refused.length === 0) return html`<span class="muted">none</span>`;
  return html`<ul class="plain-list">${refused.map(({ reason, updates }) => html`<li key=${reason}>
    ${count(updates)} ${reason.replaceAll('_', ' ')}</li>`)}</ul>`;
}

// Updates a second, from how the totals grew since some seconds ago.
function useRates(answer) {
  const past = useRef([]);
  const [rates, setRates] = useState(new Map());
  useEffect(() => {
    if (!answer) return;
    const at = performance.now();
    const totals = new Map(answer.clients.map((client) => [client.name, Number(client.accepted_updates)]));
    past.current = [...past.current.filter((each) => at - each.at < WINDOW_MS), { at, totals }];
    const [before] = past.current;
    if (at - before.at < EVERY_MS / 2) return;
    setRates(new Map([...totals].map(([name, total]) => {
      const grown = total - (before.totals.get(name) ?? total);
      return [name, Math.max(0, grown) / ((at - before.at) / 1000)];
    })));
  }, [answer]);
  return rates;
}
