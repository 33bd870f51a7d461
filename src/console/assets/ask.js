// Asking before something is done, and saying what came of it.

import { useEffect, useRef, useState } from './vendor/preact-hooks.js';
import { html, Problem } from './ui.js';

let show = () => {};
let announce = () => {};

/** Asks. `run` does it and returns what to say; `typed` has to be typed first, where it is set. */
export const ask = (question) => show(question);

/** Takes back what was asked. */
export const drop = () => show(null);

/** Says something in passing, also to screen readers. */
export const say = (text) => announce(text);

/** Stands once, at the root. */
export function Asking() {
  const [question, setQuestion] = useState(null);
  const [said, setSaid] = useState('');
  const timer = useRef(0);
  show = setQuestion;
  announce = (text) => {
    setSaid(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(''), 12000);
  };
  return html`
    ${question && html`<${Dialog} question=${question} close=${() => setQuestion(null)} />`}
    <div class="said-place" role="status">${said && html`<div class="said">
      <span>${said}</span>
      <button type="button" class="plain" aria-label="Dismiss" onClick=${() => setSaid('')}>✕</button>
    </div>`}</div>`;
}

function Dialog({ question, close }) {
  const dialog = useRef(null);
  const [typed, setTyped] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  useEffect(() => dialog.current.showModal(), []);
  const ready = !question.typed || typed === question.typed;
  const submit = async (event) => {
    event.preventDefault();
    if (!ready || busy) return;
    setBusy(true);
    setError(null);
    try {
      const said = await question.run();
      dialog.current.close();
      if (said) say(said);
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="ask-title" onClose=${close}
    onCancel=${(event) => busy && event.preventDefault()}>
    <form onSubmit=${submit}>
      <h2 id="ask-title">${question.title}</h2>
      <div class="ask-body">${question.body}</div>
      ${question.typed && html`<label class="field">
        <span>Type <strong class="typed">${question.typed}</strong> to confirm</span>
        <input value=${typed} onInput=${(event) => setTyped(event.target.value)}
          autocomplete="off" autocapitalize="off" spellcheck=${false} />
      </label>`}
      <${Problem} error=${error} />
      <div class="buttons">
        <button type="button" disabled=${busy} onClick=${() => dialog.current.close()}>Cancel</button>
        <button type="submit" class=${question.danger ? 'danger' : 'primary'}
          disabled=${!ready || busy}>${busy ? 'Working …' : question.action}</button>
      </div>
    </form>
  </dialog>`;
}
