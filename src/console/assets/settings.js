// Settings: what is in force, the levers of each app, and who looks.

import { say } from './ask.js';
import { health } from './health.js';
import { askLever } from './levers.js';
import { Badge, Facts, Heading, html, Loading, Problem, ReaderNote, Table, Time, useRpc } from './ui.js';

export function Settings({ status, session, operator, leave }) {
  return html`<${Heading} title="Settings" />
    <section aria-labelledby="levers"><h2 id="levers">Apps</h2>
      ${!operator && html`<${ReaderNote} id="reader" what="To pause, resume or flush an app" />`}
      <${Levers} status=${status} operator=${operator} /></section>
    <${Config} />
    <section class="panel" aria-labelledby="session"><h2 id="session">You</h2>
      <${Facts} pairs=${[
        ['Name', session.name],
        ['Role', session.role],
        ['Log-in', session.login_required ? 'by a token of [[admins]]'
          : 'none is asked for: without [[admins]] whoever reaches this page is an operator'],
      ]} />
      ${session.login_required && html`<div class="buttons start">
        <button type="button" onClick=${leave}>Log out</button></div>`}</section>`;
}

function Levers({ status, operator }) {
  const why = operator ? undefined : 'reader';
  const button = (app, method, words) => html`<button type="button" disabled=${!operator}
    aria-describedby=${why} aria-label=${`${words} ${app.app}`}
    onClick=${() => askLever(method, app)}>${words}</button>`;
  return html`<${Table} caption="Apps and their levers" hideCaption class="stacks">
    <thead><tr><th scope="col">App</th><th scope="col">State</th><th scope="col">Levers</th></tr></thead>
    <tbody>${status.apps.map((app) => {
      const { tone, words, sentence } = health(app, status);
      return html`<tr key=${app.app}><th scope="row">${app.app}</th>
        <td class="wide"><${Badge} tone=${tone}>${words}</${Badge}><span class="sub">${sentence}</span></td>
        <td class="wide"><div class="buttons start">
          ${app.paused ? button(app, 'Resume', 'Resume') : button(app, 'Pause', 'Pause')}
          ${button(app, 'FlushNow', 'Flush now')}</div></td></tr>`;
    })}</tbody></${Table}>`;
}

function Config() {
  const asked = useRpc('GetConfig', {}, { every: 10000 });
  const config = asked.data;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(config.toml);
      say('The configuration is copied.');
    } catch {
      say('The browser does not let this page copy. Choose the text and copy it yourself.');
    }
  };
  return html`<section aria-labelledby="config">
    <div class="heading"><h2 id="config">Configuration in force</h2>
      ${config && html`<button type="button" onClick=${copy}>Copy</button>`}</div>
    <${Problem} error=${asked.error} retry=${asked.reload} />
    ${!config && asked.loading && html`<${Loading} />`}
    ${config && html`
      ${config.problem && html`<p class="note warn">The file as it is now is refused, and this one is
        still in force: ${config.problem}</p>`}
      <p class="muted">${config.file ? html`Of <code>${config.file}</code>` : 'The defaults and the environment'}, read
        <${Time} at=${config.loaded_at} />. Secrets are left out. docs/configuration.md says what
        each key means.</p>
      <pre class="config" tabindex="0" role="region" aria-label="Configuration in force, as TOML">${config.toml}</pre>`}
  </section>`;
}
