// The frame around the pages: session, navigation, connection.

import { render } from './vendor/preact.js';
import { useEffect, useRef, useState } from './vendor/preact-hooks.js';
import { getSession, logOut, onSessionEnded } from './api.js';
import { Asking, drop } from './ask.js';
import { Clients } from './clients.js';
import { DeadLetter } from './dead-letter.js';
import { DeadLetters } from './dead-letters.js';
import { Find } from './find.js';
import { clock, count } from './format.js';
import { Job } from './job.js';
import { Jobs } from './jobs.js';
import { retry, start, stop } from './live.js';
import { LogIn } from './login.js';
import { Overview } from './overview.js';
import { address, chooseApp, useRoute } from './route.js';
import { Settings } from './settings.js';
import { Boundary, Empty, Heading, html, Loading, Problem, useLive } from './ui.js';

const PAGES = [
  ['', 'Overview', Overview],
  ['jobs', 'Jobs', Jobs, Job],
  ['clients', 'Clients', Clients],
  ['dead-letters', 'Dead letters', DeadLetters, DeadLetter],
  ['find', 'Find a user', Find],
  ['settings', 'Settings', Settings],
];

const ENDED = 'Your session has ended. Log in again to go on where you were.';

function Console() {
  const [session, setSession] = useState(undefined);
  const [error, setError] = useState(null);
  const [note, setNote] = useState('');
  const end = (why) => {
    stop();
    drop();
    setNote(why);
    setSession(null);
  };
  const begin = () => {
    setError(null);
    getSession().then(setSession, setError);
  };
  useEffect(() => {
    onSessionEnded(() => end(ENDED));
    begin();
  }, []);
  useEffect(() => {
    if (session) start(() => end(ENDED));
  }, [session]);
  if (error) {
    return html`<main class="login"><h1>The gateway does not answer</h1>
      <${Problem} error=${error} retry=${begin} /></main>`;
  }
  if (session === undefined) return html`<main class="login"><${Loading} /></main>`;
  const leave = async () => {
    await logOut();
    end('You are logged out.');
  };
  return html`${session === null
    ? html`<${LogIn} note=${note} entered=${setSession} />`
    : html`<${Shell} session=${session} leave=${leave} />`}
    <${Asking} />`;
}

function Shell({ session, leave }) {
  const route = useRoute();
  const live = useLive();
  const [open, setOpen] = useState(false);
  const first = useRef(true);
  const [name = '', id] = route.parts;
  const page = PAGES.find(([path]) => path === name);
  const apps = live.status?.apps ?? [];
  const app = apps.find((each) => each.app === route.app) ?? apps[0];
  useEffect(() => {
    setOpen(false);
    if (!first.current) document.getElementById('heading')?.focus();
    first.current = false;
  }, [route.key]);
  const View = id !== undefined ? page?.[3] : page?.[2];
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="side ${open ? 'open' : ''}">
      <div class="top">
        <a class="brand" href=${address('/')}><img src="/console/icon.svg" alt="" width="26"
          height="26" />userpilot-gateway</a>
        <span class="dot ${CONNECTION[live.connection][0]}" aria-hidden="true"></span>
        <button type="button" class="menu" aria-expanded=${open ? 'true' : 'false'}
          aria-controls="menu" onClick=${() => setOpen(!open)}>Menu</button>
      </div>
      <div class="below" id="menu">
        <${Apps} apps=${apps} app=${app} />
        <${Pages} current=${name} apps=${apps} />
        <div class="foot">
          <${Connection} live=${live} />
          <${Theme} />
          <${Who} session=${session} leave=${leave} />
        </div>
      </div>
    </header>
    <main id="main" tabindex="-1">
      <${Notices} live=${live} asked=${route.app} app=${app} />
      ${!live.status && html`<${Waiting} live=${live} />`}
      ${live.status && !View && html`<${Lost} />`}
      ${live.status && View && html`<${Boundary} key=${route.key}>
        <${View} id=${id} app=${app} status=${live.status} session=${session} route=${route}
          operator=${session.role === 'operator'} leave=${leave} /></${Boundary}>`}
    </main>`;
}

function Waiting({ live }) {
  if (live.connection === 'connecting') return html`<${Loading} />`;
  return html`<h1 id="heading" tabindex="-1">The gateway does not answer</h1>
    <p>This page goes on by itself once it does.</p>`;
}

function Lost() {
  return html`<${Heading} title="No such page" />
    <${Empty} title="There is nothing at this address.">
      <a href=${address('/')}>Go to the overview</a></${Empty}>`;
}

function Apps({ apps, app }) {
  if (apps.length < 2) return null;
  return html`<label class="apps"><span>App</span>
    <select value=${app?.app} onChange=${(event) => chooseApp(event.target.value)}>
      ${apps.map((each) => html`<option key=${each.app} value=${each.app}>${each.app}</option>`)}
    </select></label>`;
}

function Pages({ current, apps }) {
  const dead = apps.reduce((sum, app) => sum + Number(app.dead_letters), 0);
  return html`<nav aria-label="Pages"><ul>${PAGES.map(([path, title]) => html`<li key=${path}>
    <a href=${address(`/${path}`)} aria-current=${path === current ? 'page' : undefined}>${title}
      ${path === 'dead-letters' && dead > 0 && html`<span class="tally">${count(dead)}
        <span class="hidden"> open, in all apps</span></span>`}</a></li>`)}</ul></nav>`;
}

const CONNECTION = {
  connecting: ['idle', 'Connecting'],
  live: ['ok', 'Live'],
  lost: ['bad', 'Connection lost'],
  polling: ['warn', 'Polling'],
};

function Connection({ live }) {
  const [tone, text] = CONNECTION[live.connection];
  return html`<p class="connection"><span class="dot ${tone}" aria-hidden="true"></span>${text}</p>`;
}

function Theme() {
  const [choice, setChoice] = useState(window.theme.choice());
  const choose = (event) => {
    window.theme.choose(event.target.value);
    setChoice(event.target.value);
  };
  return html`<label class="theme"><span>Theme</span>
    <select value=${choice} onChange=${choose}>
      <option value="system">As the system</option>
      <option value="light">Light</option>
      <option value="dark">Dark</option>
    </select></label>`;
}

function Who({ session, leave }) {
  if (!session.login_required) return html`<p class="who muted">No log-in is asked for</p>`;
  return html`<div class="who"><span>${session.name} <span class="muted">${session.role}</span></span>
    <button type="button" onClick=${leave}>Log out</button></div>`;
}

// What concerns every page, and is read out when it comes.
function Notices({ live, asked, app }) {
  const { status, connection, heard } = live;
  const notes = [];
  if (connection === 'lost') {
    notes.push(['bad', html`The connection to the gateway is lost${heard > 0 &&
      `; what you see is of ${clock(heard)}`}. It is tried again by itself.`, true]);
  }
  if (connection === 'polling') {
    notes.push(['warn', 'Live events do not come through; the state is asked for every 2 seconds.', true]);
  }
  if (status && !status.ready) {
    notes.push(['bad', `The gateway takes no updates: ${status.not_ready_reason}.`]);
  }
  if (status?.config_problem) {
    notes.push(['warn', html`The configuration as it is now is refused, and the one before it is in
      force: ${status.config_problem}`]);
  }
  if (Number(status?.store?.quarantined_records ?? 0) > 0) {
    notes.push(['warn', `${count(status.store.quarantined_records)} damaged entries of the store are
      set aside. “Disk trouble” in docs/operations.md says what to do.`]);
  }
  if (status && asked && app?.app !== asked) {
    notes.push(['warn', `There is no app “${asked}”. This is ${app?.app ?? 'nothing'}.`]);
  }
  return html`<div aria-live="polite">${notes.map(([tone, text, again], index) => html`
    <div class="note act ${tone}" key=${index}><p>${text}</p>
      ${again && html`<button type="button" onClick=${retry}>Try now</button>`}</div>`)}</div>`;
}

render(html`<${Console} />`, document.getElementById('console'));
