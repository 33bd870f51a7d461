// Find a user or a company: what waits, is in flight, was delivered when, died why.

import { useRef, useState } from './vendor/preact-hooks.js';
import { Reason } from './dead-letters.js';
import { bytes, clock, count, sentence, subject, word } from './format.js';
import { askForget } from './levers.js';
import { Properties } from './properties.js';
import { jobAddress, keepState, letterAddress } from './route.js';
import { Empty, Facts, Heading, html, Loading, Moment, Problem, ReaderNote, Table, Time, useRpc } from './ui.js';

export function Find({ app, status, operator, route }) {
  const [asked, setAsked] = useState(route.state?.find ?? null);
  const [forgotten, setForgotten] = useState(null);
  const [search, setSearch] = useState(0);
  const look = (next) => {
    setForgotten(null);
    setSearch((n) => n + 1);
    setAsked(next);
    keepState({ find: next });
  };
  if (!operator) {
    return html`<${Heading} title="Find a user" />
      <${ReaderNote} id="reader" what="To look up a user or a company, which shows their values," />`;
  }
  return html`<${Heading} title="Find a user" />
    <p class="lead">Or a company: what of it waits, is in flight, was delivered when, or died why.</p>
    <${Search} asked=${asked} look=${look} app=${app} />
    ${forgotten && html`<${Forgotten} of=${forgotten} />`}
    ${asked && app && html`<${Found} key=${`${search} ${app.app} ${asked.kind} ${asked.id}`} app=${app.app}
      several=${status.apps.length > 1} asked=${asked} done=${setForgotten} />`}`;
}

function Search({ asked, look, app }) {
  const [kind, setKind] = useState(asked?.kind ?? 'user');
  const field = useRef(null);
  const submit = (event) => {
    event.preventDefault();
    const id = field.current.value.trim();
    if (id !== '') look({ kind, id });
  };
  return html`<form class="filter" role="search" aria-label=${`Find in ${app?.app ?? ''}`} onSubmit=${submit}>
    <label class="field"><span>Look for</span>
      <select value=${kind} onChange=${(event) => setKind(event.target.value)}>
        <option value="user">User</option><option value="company">Company</option></select></label>
    <label class="field grow"><span>Id, exactly as it was sent</span>
      <input ref=${field} defaultValue=${asked?.id ?? ''} required autocomplete="off" autocapitalize="off"
        spellcheck=${false} /></label>
    <button type="submit" class="primary">Find</button>
  </form>`;
}

// Each look at somebody's values is on record, so none is taken that nobody asked for.
function Found({ app, several, asked, done }) {
  const who = subject(asked.kind, asked.id);
  const found = useRpc('FindSubject', { app, subject: who });
  const answer = found.data;
  const forget = (where) => askForget({
    app: where, ...asked, subject: who,
    done: (forgotten) => {
      done(forgotten);
      found.reload();
    },
  });
  if (found.error) return html`<${Problem} error=${found.error} retry=${found.reload} />`;
  if (!answer) return html`<${Loading} />`;
  const { pending, in_flight: flying, deliveries = [], dead_letters: dead = [] } = answer;
  const nothing = !pending && !flying && deliveries.length === 0 && dead.length === 0;
  return html`<section aria-labelledby="found" class="found">
    <div class="heading"><h2 id="found">${sentence(asked.kind)} <span class="id">${asked.id}</span>
      <span class="muted"> in ${app}, at ${clock(found.at)}</span></h2>
      <button type="button" onClick=${found.reload}>Look again</button></div>
    ${nothing ? html`<${Empty} title=${`Nothing of this ${asked.kind} is here.`}>
      Nothing waits, and no delivery is remembered (<code>history.delivered_hours</code>). Ids are
      compared exactly: mind capitals and spaces.</${Empty}>` : html`<div class="two">
      <${Pending} record=${pending} /><${InFlight} record=${flying} app=${app} /></div>
      <${Deliveries} deliveries=${deliveries} app=${app} />
      <${Dead} letters=${dead} app=${app} />`}
    <section class="panel quiet" aria-labelledby="forget"><h3 id="forget">Forget this ${asked.kind}</h3>
      <p>Erases all that the gateway keeps of it, and reads the whole store to prove it.</p>
      <div class="buttons start">
        <button type="button" class="danger-quiet" onClick=${() => forget(app)}>Forget in ${app} …</button>
        ${several && html`<button type="button" class="danger-quiet" onClick=${() => forget('')}>
          Forget in all apps …</button>`}</div></section>
  </section>`;
}

function Pending({ record }) {
  return html`<section class="panel" aria-labelledby="waits"><h3 id="waits">Waits</h3>
    ${record ? html`<${Facts} pairs=${[
      ['Since', html`<${Moment} at=${record.accepted_at} />`],
      ['Sent by', record.client],
      ['Lane', word(record.lane, 'LANE_')],
      ['Updates', `${count(record.updates)}, ${bytes(record.bytes)}`],
      ['Sequences', `${count(record.first_sequence)} to ${count(record.last_sequence)}`],
      ['Company', record.company_id],
    ]} /><${Properties} metadata=${record.metadata} caption="Properties that wait" none="No properties." />`
    : html`<p class="muted">Nothing waits.</p>`}</section>`;
}

function InFlight({ record, app }) {
  return html`<section class="panel" aria-labelledby="flying"><h3 id="flying">In flight</h3>
    ${record ? html`<${Facts} pairs=${[
      ['By', record.express ? 'express' : html`<${JobLink} of=${record} app=${app} />`],
      ['Accepted', html`<${Moment} at=${record.accepted_at} />`],
      ['Updates', count(record.updates)],
      ['Sequences', `${count(record.first_sequence)} to ${count(record.last_sequence)}`],
      ['Company', record.company_id],
    ]} /><${Properties} metadata=${record.metadata} caption="Properties in flight" none="No properties." />`
    : html`<p class="muted">Nothing is in flight.</p>`}</section>`;
}

const JobLink = ({ of, app }) => html`<a class="id" href=${jobAddress(of.batch_id, { app })}>${of.batch_id}</a>`;

function Deliveries({ deliveries, app }) {
  return html`<section aria-labelledby="delivered"><h3 id="delivered">Delivered</h3>
    ${deliveries.length === 0 ? html`<p class="muted">No delivery is remembered.</p>` : html`
      <${Table} caption="Deliveries, newest first" hideCaption class="stacks">
        <thead><tr><th scope="col">When</th><th scope="col">By</th><th scope="col">Job id</th>
          <th scope="col" class="number">Sequences</th></tr></thead>
        <tbody>${deliveries.map((each) => html`<tr key=${each.last_sequence}>
          <td data-label="When"><${Moment} at=${each.delivered_at} /></td>
          <td data-label="By">${each.express ? 'express' : html`<${JobLink} of=${each} app=${app} />`}</td>
          <td data-label="Job id">${each.job_id && html`<code>${each.job_id}</code>`}</td>
          <td class="number" data-label="Sequences">${count(each.first_sequence)} –
            ${count(each.last_sequence)}</td></tr>`)}</tbody>
      </${Table}>`}</section>`;
}

function Dead({ letters, app }) {
  return html`<section aria-labelledby="dead"><h3 id="dead">Dead letters</h3>
    ${letters.length === 0 ? html`<p class="muted">None.</p>` : html`
      <${Table} caption="Dead letters, newest first" hideCaption class="stacks">
        <thead><tr><th scope="col">Died</th><th scope="col">Reason</th><th scope="col">What Userpilot said</th>
          <th scope="col"><span class="hidden">Look at it</span></th></tr></thead>
        <tbody>${letters.map((each) => html`<tr key=${each.id}>
          <td data-label="Died"><${Time} at=${each.died_at} /></td>
          <td class="keep" data-label="Reason"><${Reason} of=${each} /></td>
          <td class="words" data-label="Userpilot said">${each.detail}</td>
          <td><a href=${letterAddress(each.id, { app })}
            aria-label=${`Look at the dead letter ${each.id}`}>Look</a></td></tr>`)}</tbody>
      </${Table}>`}</section>`;
}

function Forgotten({ of: { apps, held_apps: held = [] } }) {
  const left = apps.some(({ scan }) => Number(scan?.left) > 0);
  const skipped = held.length > 0 && 'Forgotten, but not everywhere';
  return html`<section class=${`note ${left || skipped ? 'bad' : 'ok'}`} aria-labelledby="forgotten">
    <h2 id="forgotten">${left ? 'Something is left: forget it again' : skipped || 'Forgotten'}</h2>
    ${skipped && html`<p>Not searched, since they are held: <strong>${held.join(', ')}</strong>. What they
      keep of it stays; “Disk trouble” in docs/operations.md says what to do.</p>`}
    <${Table} caption="What was erased" hideCaption>
      <thead><tr><th scope="col">App</th><th scope="col" class="number">Waited</th>
        <th scope="col" class="number">In flight</th><th scope="col" class="number">Dead letters</th>
        <th scope="col" class="number">Deliveries</th><th scope="col" class="number">Mentions</th>
        <th scope="col" class="number">Entries read</th><th scope="col" class="number">Left</th></tr></thead>
      <tbody>${apps.map((each) => html`<tr key=${each.app}><th scope="row">${each.app}</th>
        ${[each.pending, each.in_flight, each.dead_letters, each.deliveries,
          Number(each.quarantined) + Number(each.mentions), each.scan?.entries, each.scan?.left]
          .map((n, at) => html`<td key=${at} class="number">${count(n)}</td>`)}</tr>`)}</tbody>
    </${Table}></section>`;
}
