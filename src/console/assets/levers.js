// What an operator can do, each with the words that it asks with.

import { exportAddress, rpc, rpcLines } from './api.js';
import { ask } from './ask.js';
import { count, counted, word } from './format.js';
import { refresh } from './live.js';
import { html } from './ui.js';

const letters = (n) => counted(n, 'dead letter');

/** Which dead letters are meant, in words. `selection` is the message of that name. */
function chosen(selection, app) {
  if (selection.all) return html`<strong>All</strong> open dead letters of <strong>${app}</strong>`;
  if (selection.ids) {
    const n = selection.ids.ids.length;
    return html`<strong>${letters(n)}</strong> of <strong>${app}</strong>`;
  }
  return html`All open dead letters of <strong>${app}</strong> that match:
    <strong>${filterInWords(selection.filter)}</strong>`;
}

/** "bad row, of user ada" */
export function filterInWords({ reason, subject }) {
  const parts = [];
  if (reason) parts.push(word(reason, 'DEAD_LETTER_REASON_'));
  if (subject?.user_id) parts.push(`of user ${subject.user_id}`);
  if (subject?.company_id) parts.push(`of company ${subject.company_id}`);
  return parts.join(', ');
}

const one = (selection) => selection.ids?.ids.length === 1;

export function askReplay({ app, selection, done }) {
  ask({
    title: one(selection) ? 'Replay this dead letter?' : 'Replay dead letters?',
    body: html`<p>${chosen(selection, app)} ${one(selection) ? 'goes' : 'go'} back into the queue and
      ${one(selection) ? 'is' : 'are'} sent to Userpilot again.</p>
      <p>A value that is older than one that waits, or was delivered since, does not overwrite it.
      What Userpilot refuses again becomes a dead letter again.</p>`,
    action: 'Replay',
    run: async () => {
      const answer = await rpc('ReplayDeadLetters', { app, selection });
      refresh();
      done(answer);
      const rest = [
        [answer.no_room, 'stayed, since there is no room in the queue'],
        [answer.not_there, 'was not there, or closed already'],
      ].filter(([n]) => Number(n) > 0).map(([n, why]) => ` ${count(n)} ${why}.`);
      return `${letters(answer.replayed)} replayed.${rest.join('')}`;
    },
  });
}

export function askDiscard({ app, selection, done }) {
  ask({
    title: one(selection) ? 'Discard this dead letter?' : 'Discard dead letters?',
    body: html`<p>${chosen(selection, app)} ${one(selection) ? 'is' : 'are'} given up for good: the
      values are forgotten and never reach Userpilot. <strong>This cannot be undone.</strong></p>
      <p>Export first what somebody may ask for.</p>`,
    action: 'Discard',
    danger: true,
    typed: selection.ids ? undefined : app,
    run: async () => {
      const answer = await rpc('DiscardDeadLetters', { app, selection });
      refresh();
      done(answer);
      const gone = Number(answer.not_there) > 0 ? ` ${count(answer.not_there)} was closed already.` : '';
      return `${letters(answer.discarded)} discarded.${gone}`;
    },
  });
}

export function askExport({ app, filter }) {
  const words = filterInWords(filter);
  ask({
    title: 'Export dead letters?',
    body: html`<p>A file is downloaded, with a line of JSON for each dead letter of
      <strong>${app}</strong>${words && html` that matches: <strong>${words}</strong>`}${
        filter.includeClosed && ', closed ones included'}.</p>
      <p>It holds property values, which are <strong>personal data</strong>. The audit log says that
      you exported them. Nothing changes in the gateway.</p>`,
    action: 'Export',
    run: async () => {
      const link = document.createElement('a');
      link.href = filter.subject ? await linesOf(app, filter) : exportAddress(app, filter);
      link.download = `dead-letters-${app}.ndjson`;
      link.click();
      if (filter.subject) setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      return 'The export is being downloaded.';
    },
  });
}

// Those of one user or company are few, and an id does not go into an address.
async function linesOf(app, { reason, subject, includeClosed }) {
  const filter = { ...(reason && { reason }), subject };
  const found = await rpcLines('ExportDeadLetters', { app, filter, include_closed: includeClosed });
  const lines = found.map(({ dead_letter: letter }) => `${JSON.stringify(letter)}\n`);
  return URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' }));
}

export function askForget({ app, kind, id, subject, done }) {
  const where = app === '' ? html`<strong>all apps</strong>` : html`<strong>${app}</strong>`;
  ask({
    title: `Forget this ${kind}?`,
    body: html`<p>Everything that the gateway keeps of ${kind} <strong class="typed">${id}</strong> in
      ${where} is erased: what waits, dead letters, remembered deliveries, and every mention. What
      is in flight cannot be called back. <strong>This cannot be undone.</strong></p>
      <p>The profile at Userpilot stays: delete it there. Updates that come later are delivered as any
      other.</p>`,
    action: 'Forget',
    danger: true,
    typed: id,
    run: async () => {
      const answer = await rpc('ForgetSubject', { app, subject });
      refresh();
      done(answer);
      const { held_apps: held = [] } = answer;
      return held.length > 0 ? `The ${kind} is not forgotten everywhere.` : `The ${kind} is forgotten.`;
    },
  });
}

const LEVERS = {
  Pause: {
    body: (app) => html`<p>Nothing more of <strong>${app}</strong> is submitted. A job that runs is
      watched to its end; updates are still accepted, and wait. It stays paused over a restart, until
      somebody resumes it.</p>`,
    done: (app) => `${app} is paused.`,
  },
  Resume: {
    body: (app) => html`<p><strong>${app}</strong> goes on to submit what waits, as its budget
      allows.</p>`,
    done: (app) => `${app} is resumed.`,
  },
  FlushNow: {
    body: (app, { halted, paused, held }) => (held
      ? html`<p class="note warn"><strong>${app}</strong> is held: ${held}. A flush does nothing.</p>`
      : html`<p>What waits of <strong>${app}</strong> is submitted as soon as its budget allows, without
        waiting for more to join it or for the end of a backoff.</p>
        ${halted && html`<p class="note warn">The app is halted. A flush also says that Userpilot is
          fine and the rows are to blame: <strong>up to ten more may become dead letters</strong> before
          it halts again.</p>`}
        ${paused && html`<p class="note warn">The app is paused: nothing is submitted until somebody
          resumes it.</p>`}`),
    done: (app, { paused }) => (paused ? `${app} is told to flush, and submits nothing until it is resumed.`
      : `${app} is told to flush.`),
  },
};

/** Asks before an app is paused, resumed or flushed. */
export function askLever(method, app) {
  const title = { Pause: 'Pause', Resume: 'Resume', FlushNow: 'Flush' }[method];
  const { paused, held_reason: held } = app;
  const halted = !held && (app.state === 'APP_STATE_HALTED' || app.halted_kinds?.length > 0);
  const how = { halted, paused, held };
  ask({
    title: `${title} ${app.app}?`,
    body: LEVERS[method].body(app.app, how),
    action: title,
    danger: method === 'FlushNow' && halted,
    run: async () => {
      await rpc(method, { app: app.app });
      await refresh();
      return LEVERS[method].done(app.app, how);
    },
  });
}
