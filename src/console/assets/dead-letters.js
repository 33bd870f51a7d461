// Dead letters: find them, choose them, and say what is to become of them.

import { useState } from './vendor/preact-hooks.js';
import { count, counted, sentence, subject, subjectOf, word } from './format.js';
import { askDiscard, askExport, askReplay, filterInWords } from './levers.js';
import { keepState, letterAddress } from './route.js';
import { Badge, Empty, Heading, html, Loading, Pager, Problem, ReaderNote, Table, Time, usePages, useRpc }
  from './ui.js';

const PAGE = 25;
const REASONS = [
  ['', 'Any reason'],
  ['DEAD_LETTER_REASON_BAD_ROW', 'Bad row'],
  ['DEAD_LETTER_REASON_TOO_LARGE', 'Too large'],
  ['DEAD_LETTER_REASON_JOB_FAILED', 'Job failed'],
  ['DEAD_LETTER_REASON_NOT_TAKEN', 'Not taken'],
];
const NONE = { reason: '', kind: 'user', id: '', includeClosed: false };

export function DeadLetters({ app, operator, route }) {
  return app ? html`<${Of} key=${app.app} app=${app} operator=${operator} kept=${route.state?.filter} />`
    : html`<${Heading} title="Dead letters" /><${Empty} title="No app is configured." />`;
}

function Of({ app, operator, kept }) {
  const [fields, setFields] = useState({ ...NONE, ...kept });
  const [chosen, setChosen] = useState(new Set());
  const filter = filterOf(fields);
  const pages = usePages(JSON.stringify(fields));
  const asked = useRpc('ListDeadLetters', {
    app: app.app, filter: filter ?? undefined, include_closed: fields.includeClosed,
    page_size: PAGE, page_token: pages.token,
  }, { every: 5000 });
  const letters = asked.data?.dead_letters ?? [];
  const open = letters.filter(isOpen);
  const marked = open.filter(({ id }) => chosen.has(id)).map(({ id }) => id);
  const change = (next) => {
    setFields(next);
    setChosen(new Set());
    keepState({ filter: next });
  };
  const done = () => {
    setChosen(new Set());
    asked.reload();
  };
  return html`<${Heading} title="Dead letters"><span class="muted">${counted(app.dead_letters,
      'open one', 'open')} in ${app.app}</span></${Heading}>
    <p class="lead">Records that Userpilot will not take, kept until somebody replays or discards
      them.</p>
    ${!operator && html`<${ReaderNote} id="reader"
      what="To see their values, to replay, discard or export them" />`}
    <${Filter} fields=${fields} change=${change} />
    <${Actions} app=${app} filter=${filter} fields=${fields} marked=${marked} done=${done}
      operator=${operator} />
    <${Problem} error=${asked.error} retry=${asked.reload} />
    ${!asked.data && asked.loading && html`<${Loading} />`}
    ${asked.data && letters.length === 0 && html`<${Nothing} filter=${filter} clear=${() => change(NONE)} />`}
    ${letters.length > 0 && html`<${List} letters=${letters} app=${app.app} chosen=${chosen}
      choose=${setChosen} operator=${operator} busy=${asked.loading} />
      <${Pager} pages=${pages} next=${asked.data.next_page_token} what="dead letters" />`}`;
}

export const isOpen = (letter) => letter.state === 'DEAD_LETTER_STATE_OPEN';

// The message DeadLetterFilter, or null where all are meant.
function filterOf({ reason, kind, id }) {
  if (reason === '' && id === '') return null;
  return {
    ...(reason && { reason }),
    ...(id && { subject: subject(kind, id) }),
  };
}

function Nothing({ filter, clear }) {
  if (filter === null) {
    return html`<${Empty} title="There are no dead letters.">Everything that was accepted waits, is on
      its way, or was delivered.</${Empty}>`;
  }
  return html`<${Empty} title="None match."><button type="button" onClick=${clear}>Show all</button></${Empty}>`;
}

function Filter({ fields, change }) {
  const [draft, setDraft] = useState(fields.id);
  const submit = (event) => {
    event.preventDefault();
    change({ ...fields, id: draft.trim() });
  };
  const clear = () => {
    setDraft('');
    change(NONE);
  };
  return html`<form class="filter" role="search" aria-label="Filter dead letters" onSubmit=${submit}>
    <label class="field"><span>Reason</span>
      <select value=${fields.reason} onChange=${(event) => change({ ...fields, reason: event.target.value })}>
        ${REASONS.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}
      </select></label>
    <label class="field"><span>Of</span>
      <select value=${fields.kind} onChange=${(event) => change({ ...fields, kind: event.target.value })}>
        <option value="user">User</option><option value="company">Company</option>
      </select></label>
    <label class="field grow"><span>Id, exactly</span>
      <input value=${draft} onInput=${(event) => setDraft(event.target.value)} autocomplete="off"
        autocapitalize="off" spellcheck=${false} /></label>
    <button type="submit">Search</button>
    <label class="check"><input type="checkbox" checked=${fields.includeClosed}
      onChange=${(event) => change({ ...fields, includeClosed: event.target.checked })} />
      Closed ones, too</label>
    ${(filterOf(fields) || draft) && html`<button type="button" class="plain" onClick=${clear}>Clear</button>`}
  </form>`;
}

function Actions({ app, filter, fields, marked, done, operator }) {
  const some = marked.length > 0;
  const selection = some ? { ids: { ids: marked } } : filter ? { filter } : { all: {} };
  const which = some ? `${count(marked.length)} chosen` : filter ? 'all that match' : 'all';
  const none = !some && Number(app.dead_letters) === 0;
  const off = !operator || none;
  const why = operator ? undefined : 'reader';
  return html`<div class="bar-of-actions">
    <button type="button" disabled=${off} aria-describedby=${why}
      onClick=${() => askReplay({ app: app.app, selection, done })}>Replay ${which}</button>
    <button type="button" class="danger-quiet" disabled=${off} aria-describedby=${why}
      onClick=${() => askDiscard({ app: app.app, selection, done })}>Discard ${which}</button>
    <button type="button" disabled=${!operator} aria-describedby=${why} onClick=${() => askExport({
      app: app.app, filter: { ...filter, includeClosed: fields.includeClosed } })}>
      Export ${filter ? 'all that match' : 'all'}</button>
    ${filter && html`<span class="muted">Filter: ${filterInWords(filter)}</span>`}
  </div>`;
}

function List({ letters, app, chosen, choose, operator, busy }) {
  const open = letters.filter(isOpen);
  const all = open.length > 0 && open.every(({ id }) => chosen.has(id));
  const toggle = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    choose(next);
  };
  return html`<${Table} caption=${`Dead letters of ${app}, oldest first`} busy=${busy} class="stacks">
    <thead><tr>
      ${operator && html`<td><input type="checkbox" aria-label="Choose all on this page" checked=${all}
        disabled=${open.length === 0}
        onChange=${() => choose(new Set(all ? [] : open.map(({ id }) => id)))} /></td>`}
      <th scope="col">Of</th><th scope="col">Reason</th><th scope="col">What Userpilot said</th>
      <th scope="col">Died</th><th scope="col" class="number">Updates</th>
      <th scope="col"><span class="hidden">Look at it</span></th>
    </tr></thead>
    <tbody>${letters.map((letter) => html`<tr key=${letter.id}>
      ${operator && html`<td data-label="Choose"><input type="checkbox" checked=${chosen.has(letter.id)}
        disabled=${!isOpen(letter)} aria-label=${`Choose that of ${subjectOf(letter.subject).id}`}
        onChange=${() => toggle(letter.id)} /></td>`}
      <th scope="row"><${Who} of=${letter.subject} /></th>
      <td class="keep" data-label="Reason"><${Reason} of=${letter} /></td>
      <td class="words" data-label="Userpilot said">${letter.detail}</td>
      <td data-label="Died"><${Time} at=${letter.died_at} /></td>
      <td class="number" data-label="Updates">${count(letter.updates)}</td>
      <td>${operator && html`<a href=${letterAddress(letter.id, { app })}
        aria-label=${`Look at that of ${subjectOf(letter.subject).id}`}>Look</a>`}</td>
    </tr>`)}</tbody></${Table}>`;
}

/** A user or a company by its id. */
export function Who({ of }) {
  const { kind, id } = subjectOf(of);
  return html`<span class="id">${id}</span>${kind === 'company' && html`<span class="sub">company</span>`}`;
}

/** Why it died, and whether it is closed. */
export const Reason = ({ of }) => html`${sentence(word(of.reason, 'DEAD_LETTER_REASON_'))}
  ${!isOpen(of) && html`<${Closed} letter=${of} />`}`;

/** That a dead letter is closed, and by what. */
export const Closed = ({ letter }) => html`<span class="sub"><${Badge} tone="idle">
  ${word(letter.state, 'DEAD_LETTER_STATE_')}</${Badge}></span>`;
