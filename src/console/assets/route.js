// Which page: the address, and moving without a reload.

import { useEffect, useState } from './vendor/preact-hooks.js';

const BASE = '/console';

/** The address of a page, with the app that is chosen now. */
export function address(path, query = {}) {
  const all = new URLSearchParams(query);
  const app = all.get('app') ?? new URLSearchParams(location.search).get('app');
  if (app) all.set('app', app);
  return `${BASE}${path}${all.size > 0 ? `?${all}` : ''}`;
}

/** The address of a job's page. */
export const jobAddress = (batch, query) => address(`/jobs/${encodeURIComponent(batch)}`, query);

/** The address of a dead letter's page. */
export const letterAddress = (id, query) => address(`/dead-letters/${encodeURIComponent(id)}`, query);

/** Goes to an address. `state` outlives a reload, and unlike the address is told to nobody: ids of
 * people go there. */
export function go(to, { state = null, replace = false } = {}) {
  history[replace ? 'replaceState' : 'pushState'](state, '', to);
  window.dispatchEvent(new Event('routechange'));
}

/** Keeps `state` with this page. */
export const keepState = (state) => history.replaceState(state, '');

/** Chooses an app, and stays on the page where that makes sense. */
export function chooseApp(app) {
  const { parts } = read();
  go(address(parts.length > 1 ? `/${parts[0]}` : location.pathname.slice(BASE.length), { app }));
}

/** The page that is open: the parts of its path, the app that is asked for, its state. */
export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const update = () => setRoute(read());
    addEventListener('popstate', update);
    addEventListener('routechange', update);
    document.addEventListener('click', follow);
    return () => {
      removeEventListener('popstate', update);
      removeEventListener('routechange', update);
      document.removeEventListener('click', follow);
    };
  }, []);
  return route;
}

function read() {
  const path = location.pathname.slice(BASE.length).split('/').filter(Boolean);
  return {
    parts: path.map(decode),
    app: new URLSearchParams(location.search).get('app') ?? '',
    state: history.state,
    key: location.pathname,
  };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// A click that the browser would follow within this tab.
function follow(event) {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = event.target.closest?.('a[href]');
  if (!anchor || anchor.target || anchor.hasAttribute('download')) return;
  const to = new URL(anchor.href);
  if (to.origin !== location.origin || !`${to.pathname}/`.startsWith(`${BASE}/`)) return;
  if (to.pathname.startsWith(`${BASE}/api/`) || to.hash) return;
  event.preventDefault();
  go(to.pathname + to.search);
}
