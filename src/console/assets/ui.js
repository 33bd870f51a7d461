// What several pages are made of.

import { h, Component } from './vendor/preact.js';
import { useCallback, useEffect, useId, useLayoutEffect, useRef, useState } from './vendor/preact-hooks.js';
import htm from './vendor/htm.js';
import { rpc } from './api.js';
import { absolute, moment, relative } from './format.js';
import { current, watch } from './live.js';

const markup = htm.bind(element);
const folded = new WeakMap();

/** Markup. A line break in it is a space, as in HTML; htm alone would drop it. */
export function html(strings, ...values) {
  if (!folded.has(strings)) folded.set(strings, fold(strings));
  return markup(folded.get(strings), ...values);
}

// On a phone tables are drawn as blocks, after which some browsers take them for no tables any more.
const ROLES = { table: 'table', thead: 'rowgroup', tbody: 'rowgroup', tr: 'row', td: 'cell' };
const HEADERS = { col: 'columnheader', row: 'rowheader' };

function element(type, props, ...children) {
  const role = type === 'th' ? HEADERS[props?.scope] : ROLES[type];
  return h(type, role ? { role, ...props } : props, ...children);
}

function fold(strings) {
  const last = strings.length - 1;
  return strings.map((text, n) => {
    let line = text.replace(/>\s*\n\s*</g, '><');
    if (n === 0) line = line.replace(/^\s*\n\s*/, '');
    if (n === last) line = line.replace(/\s*\n\s*$/, '');
    return line.replace(/\s*\n\s*/g, ' ');
  });
}

/** The gateway's state as it changes. */
export function useLive() {
  const [live, setLive] = useState(current);
  useEffect(() => {
    setLive(current());
    return watch(setLive);
  }, []);
  return live;
}

/** Calls a method now, whenever the request changes, and every `every` ms. While a page is shown
 * that a newer request replaces, the old data stays. Only the first call is one of the operator's. */
export function useRpc(method, request, { every = 0, skip = false } = {}) {
  const [result, setResult] = useState({ data: null, error: null, key: null });
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([method, request, skip]);
  useEffect(() => {
    if (skip) return undefined;
    const gone = new AbortController();
    let timer = 0;
    let first = true;
    const ask = async () => {
      if (document.hidden && !first) {
        timer = setTimeout(ask, every);
        return;
      }
      const background = !first;
      first = false;
      try {
        const data = await rpc(method, request, { signal: gone.signal, background });
        setResult({ data, error: null, key, at: Date.now() });
      } catch (error) {
        if (gone.signal.aborted) return;
        setResult((last) => ({ data: last.key === key ? last.data : null, error, key }));
      }
      if (every > 0 && !gone.signal.aborted) timer = setTimeout(ask, every);
    };
    ask();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, [key, turn]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  return { ...result, loading: !skip && result.key !== key, reload };
}

/** The page's title, for the window and the heading. */
export function Heading({ title, children }) {
  useLayoutEffect(() => {
    document.title = `${title} · userpilot-gateway`;
  }, [title]);
  return html`<div class="heading"><h1 tabindex="-1" id="heading">${title}</h1>${children}</div>`;
}

/** "3 min ago", with the date and the zone as its title; goes on by itself. */
export function Time({ at, none = '–' }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 5000);
    return () => clearInterval(timer);
  }, []);
  if (!at) return html`<span class="muted">${none}</span>`;
  return html`<time datetime=${at} title=${absolute(at)}>${relative(at)}</time>`;
}

/** When it was: "12:04:05 (3 min ago)". */
export const Moment = ({ at }) => html`<time datetime=${at} title=${absolute(at)}>${moment(at)}</time>${' '}
  <span class="muted">(${relative(at)})</span>`;

/** A state as a shape and words: colour alone says nothing. */
export function Badge({ tone, children }) {
  return html`<span class="badge ${tone}"><span class="shape" aria-hidden="true"></span>${children}</span>`;
}

/** What is here when there is nothing, and what to do then. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** What went wrong, what to do, and a way to try again. */
export function Problem({ error, retry }) {
  if (!error) return null;
  return html`<div class="note act bad" role="alert">
    <p>${error.message}</p>
    ${error.fields?.length > 0 && html`<ul>${error.fields.map(
      (field) => html`<li><code>${field.field}</code>: ${field.description}</li>`,
    )}</ul>`}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** Something is being fetched for the first time. */
export const Loading = () => html`<p class="loading" role="status">Loading …</p>`;

/** Why a reader may not do what stands here. Controls point at it with aria-describedby. */
export function ReaderNote({ id, what }) {
  return html`<p class="note" id=${id}>You are logged in as a reader. ${what} is for admins with
    the role “operator”.</p>`;
}

/** A table that scrolls sideways by itself, with its caption. */
export function Table({ caption, hideCaption, children, busy, class: name = '' }) {
  return html`<div class="scroll ${name}" role="region" aria-label=${caption} tabindex="0">
    <table aria-busy=${busy ? 'true' : 'false'}>
      <caption class=${hideCaption ? 'hidden' : ''}>${caption}</caption>${children}
    </table>
  </div>`;
}

/** Names and what they are. Pairs without a value are left out. */
export function Facts({ pairs }) {
  return html`<dl class="facts">${pairs
    .filter(([, what]) => what !== undefined && what !== null && what !== '')
    .map(([name, what]) => html`<div key=${name}><dt>${name}</dt><dd>${what}</dd></div>`)}</dl>`;
}

/** Pages of a list that only leads forward: the way back is remembered. */
export function usePages(resetKey) {
  const [stack, setStack] = useState({ key: resetKey, tokens: [''] });
  const tokens = stack.key === resetKey ? stack.tokens : [''];
  useEffect(() => {
    if (stack.key !== resetKey) setStack({ key: resetKey, tokens: [''] });
  }, [resetKey]);
  return {
    token: tokens.at(-1),
    number: tokens.length,
    next: (token) => setStack({ key: resetKey, tokens: [...tokens, token] }),
    back: () => setStack({ key: resetKey, tokens: tokens.slice(0, -1) }),
  };
}

export function Pager({ pages, next, what }) {
  if (pages.number === 1 && !next) return null;
  return html`<nav class="pager" aria-label="Pages of ${what}">
    <button type="button" disabled=${pages.number === 1} onClick=${pages.back}>Previous</button>
    <span>Page ${pages.number}</span>
    <button type="button" disabled=${!next} onClick=${() => pages.next(next)}>Next</button>
  </nav>`;
}

/** One of several, such as an hour or a day. */
export function Choice({ legend, options, chosen, choose }) {
  const name = useId();
  return html`<fieldset class="choice">
    <legend class="hidden">${legend}</legend>
    ${options.map(([value, label]) => html`<label key=${value}>
      <input type="radio" name=${name} value=${value} checked=${value === chosen}
        onChange=${() => choose(value)} /><span>${label}</span>
    </label>`)}
  </fieldset>`;
}

/** The width of an element, as it changes. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** A page that fails shows that it did, and the others go on. */
export class Boundary extends Component {
  state = { failed: false };

  componentDidCatch(error) {
    console.error(error);
    this.setState({ failed: true });
  }

  render() {
    if (!this.state.failed) return this.props.children;
    return html`<div class="note bad" role="alert"><p>This page has failed. Reload it; if that does
      not help, tell who maintains the gateway what the browser's console says.</p></div>`;
  }
}
