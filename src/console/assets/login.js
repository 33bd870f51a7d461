// Logging in with an admin's token.

import { useRef, useState } from './vendor/preact-hooks.js';
import { logIn } from './api.js';
import { html, Problem } from './ui.js';

export function LogIn({ note, entered }) {
  const field = useRef(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    if (busy || token === '') return;
    setBusy(true);
    setError(null);
    try {
      entered(await logIn(token));
    } catch (problem) {
      setError(problem);
      setBusy(false);
      field.current.select();
    }
  };
  return html`<main class="login">
    <form onSubmit=${submit} class="panel">
      <p class="brand"><img src="/console/icon.svg" alt="" width="28" height="28" />userpilot-gateway</p>
      <h1 id="heading" tabindex="-1">Log in</h1>
      ${note && html`<p class="note" role="status">${note}</p>`}
      <label class="field"><span>Admin token</span>
        <input ref=${field} type="password" name="token" autocomplete="current-password" required
          autofocus aria-describedby="token-help" /></label>
      <p class="muted" id="token-help">Yours is one of <code>[[admins]]</code> in the gateway's
        configuration. <code>userpilot-gateway token new</code> makes one.</p>
      <${Problem} error=${error} />
      <div class="buttons"><button type="submit" class="primary" disabled=${busy}>
        ${busy ? 'Logging in …' : 'Log in'}</button></div>
    </form>
  </main>`;
}
