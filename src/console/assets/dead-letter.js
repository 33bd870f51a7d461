// One dead letter, with its values.

import { count, sentence, subjectOf, word } from './format.js';
import { Closed, isOpen } from './dead-letters.js';
import { askDiscard, askReplay } from './levers.js';
import { Properties } from './properties.js';
import { address, go, jobAddress } from './route.js';
import { Empty, Facts, Heading, html, Loading, Moment, Problem, ReaderNote, useRpc } from './ui.js';

const MEANING = {
  DEAD_LETTER_REASON_BAD_ROW: 'Userpilot refused it alone (400 or 422).',
  DEAD_LETTER_REASON_TOO_LARGE: 'Userpilot refused it alone as too large (413).',
  DEAD_LETTER_REASON_JOB_FAILED: 'Jobs with it alone failed, as often as they may.',
  DEAD_LETTER_REASON_NOT_TAKEN: 'A job with it alone completed without it.',
};

export function DeadLetter({ id, app, operator }) {
  const asked = useRpc('GetDeadLetter', { app: app?.app ?? '', id }, { skip: !operator });
  const letter = asked.data?.dead_letter;
  const missing = asked.error?.code === 'NOT_FOUND';
  return html`<nav aria-label="Way here" class="trail"><a href=${address('/dead-letters')}>Dead letters</a></nav>
    <${Heading} title="Dead letter">${letter && !isOpen(letter) && html`<${Closed} letter=${letter} />`}</${Heading}>
    <p class="id whole">${id}</p>
    ${!operator && html`<${ReaderNote} id="reader" what="To see the values of a dead letter" />`}
    ${missing && html`<${Empty} title="It is not there any more.">It was replayed, or dropped for its
      age. <a href=${address('/dead-letters')}>See those that are left.</a></${Empty}>`}
    ${!missing && html`<${Problem} error=${asked.error} retry=${asked.reload} />`}
    ${!asked.data && asked.loading && html`<${Loading} />`}
    ${letter && html`<${Known} letter=${letter} reload=${asked.reload} />`}`;
}

function Known({ letter, reload }) {
  const { kind, id } = subjectOf(letter.subject);
  const { app } = letter;
  const selection = { ids: { ids: [letter.id] } };
  const toList = () => go(address('/dead-letters'));
  const find = (event) => {
    event.preventDefault();
    go(address('/find'), { state: { find: { kind, id } } });
  };
  return html`
    ${isOpen(letter) && html`<div class="bar-of-actions">
      <button type="button" onClick=${() => askReplay({ app, selection, done: toList })}>Replay</button>
      <button type="button" class="danger-quiet"
        onClick=${() => askDiscard({ app, selection, done: reload })}>Discard</button></div>`}
    <div class="note bad"><p><strong>${sentence(word(letter.reason, 'DEAD_LETTER_REASON_'))}.</strong>
      ${MEANING[letter.reason]}</p>${letter.detail && html`<p class="words">“${letter.detail}”</p>`}</div>
    <div class="two">
      <section class="panel" aria-labelledby="who"><h2 id="who">The record</h2><${Facts} pairs=${[
        [sentence(kind), html`<a class="id" href=${address('/find')} onClick=${find}>${id}</a>`],
        ['Company', letter.company_id && html`<span class="id">${letter.company_id}</span>`],
        ['Updates', `${count(letter.updates)}, coalesced into it`],
        ['Sequences', `${count(letter.first_sequence)} to ${count(letter.last_sequence)}`],
        ['Accepted', html`<${Moment} at=${letter.accepted_at} />`],
        ['Died', html`<${Moment} at=${letter.died_at} />`],
        ['Closed', letter.closed_at && html`<${Moment} at=${letter.closed_at} />`],
      ]} /></section>
      <section class="panel" aria-labelledby="where"><h2 id="where">For Userpilot's support</h2><${Facts} pairs=${[
        ['Batch', html`<a class="id" href=${jobAddress(letter.batch_id)}>${letter.batch_id}</a>`],
        ['Job id', letter.job_id && html`<code>${letter.job_id}</code>`],
        ['Request id', letter.request_id && html`<code>${letter.request_id}</code>`],
      ]} /></section>
    </div>
    <section aria-labelledby="properties"><h2 id="properties">Properties</h2>
      <${Properties} metadata=${letter.metadata} caption="Properties of the dead letter"
        none=${isOpen(letter) ? 'It has no properties.' : 'It is closed, and its values are forgotten.'} /></section>`;
}
