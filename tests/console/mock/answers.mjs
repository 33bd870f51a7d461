// What each method of AdminService answers.

/** A refusal with the code that gRPC has for it. */
export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const OPEN = 'DEAD_LETTER_STATE_OPEN';

/** The answer to a request, as JSON. */
export function answer(world, method, request) {
  if (!(method in METHODS)) throw new Refused('UNIMPLEMENTED', `no method ${method}`);
  return METHODS[method](world, request);
}

const METHODS = {
  ListJobs: (world, { app, page_size: size = 50, page_token: token = '' }) => {
    const { part, next } = page(appOf(world, app).jobs, size, token);
    return { jobs: part.map(({ events, ...job }) => ({ ...job, events: [] })), next_page_token: next };
  },
  GetJob: (world, { app, id }) => {
    const job = appOf(world, app).jobs.find((each) => each.batch_id === id || each.job_id === id);
    if (!job) throw new Refused('NOT_FOUND', `no job ${id} is remembered`);
    return { job };
  },
  Pause: (world, { app }) => lever(world, app, (each) => { each.paused = true; }),
  Resume: (world, { app }) => lever(world, app, (each) => { each.paused = false; }),
  FlushNow: (world, { app }) => lever(world, app, (each) => { each.free = 0; }),
  ListDeadLetters: (world, { app, filter, include_closed: closed, page_size: size = 50, page_token: token = '' }) => {
    const all = appOf(world, app).letters.filter((each) => matches(each, filter) && (closed || each.state === OPEN));
    const { part, next } = page(all, size, token);
    const bare = part.map((each) => ({ ...each, metadata: null, company_id: undefined }));
    return { dead_letters: bare, next_page_token: next };
  },
  GetDeadLetter: (world, { app, id }) => {
    const letter = appOf(world, app).letters.find((each) => each.id === id);
    if (!letter) throw new Refused('NOT_FOUND', `no dead letter ${id}`);
    return { dead_letter: letter };
  },
  ReplayDeadLetters: (world, { app, selection }) => {
    const each = appOf(world, app);
    const gone = selected(each, selection);
    each.letters = each.letters.filter((letter) => !gone.includes(letter));
    each.pending += gone.length;
    return { replayed: gone.length, no_room: 0, not_there: missing(selection, gone) };
  },
  DiscardDeadLetters: (world, { app, selection }) => {
    const gone = selected(appOf(world, app), selection);
    for (const letter of gone) {
      const closed = new Date().toISOString();
      Object.assign(letter, { state: 'DEAD_LETTER_STATE_DISCARDED', closed_at: closed, metadata: {} });
    }
    return { discarded: gone.length, not_there: missing(selection, gone) };
  },
  ForgetSubject: (world, { app, subject }) => {
    const apps = app ? [appOf(world, app)] : world.apps;
    return { apps: apps.map((each) => forget(each, subject)), held_apps: [] };
  },
  ListClients: (world) => ({ clients: world.clients.map(clientOf) }),
  FindSubject: (world, { app, subject }) => findSubject(appOf(world, app), subject),
  GetHistory: (world, { app, resolution }) => {
    const each = appOf(world, app);
    const day = resolution === 'HISTORY_RESOLUTION_DAY';
    return { interval: day ? '60s' : '5s', ...(day ? each.day : each.hour), budget_per_second: each.perMinute / 60 };
  },
  GetConfig: () => ({
    toml: TOML, file: '/etc/userpilot-gateway/gateway.toml', problem: '',
    loaded_at: new Date(Date.now() - 3.2e6).toISOString(),
  }),
};

function appOf(world, name) {
  const app = name ? world.app(name) : world.apps[0];
  if (!app) throw new Refused('NOT_FOUND', `no app ${name} is configured`);
  return app;
}

function page(all, size, token) {
  const from = token ? Number(token) : 0;
  return { part: all.slice(from, from + size), next: from + size < all.length ? String(from + size) : '' };
}

const same = (a, b) => (b.user_id ? a.user_id === b.user_id : a.company_id === b.company_id);

function matches(letter, filter) {
  if (filter?.reason && filter.reason !== letter.reason) return false;
  return !filter?.subject || same(letter.subject, filter.subject);
}

function selected({ letters }, selection) {
  const open = letters.filter(({ state }) => state === OPEN);
  if (selection?.all) return open;
  if (selection?.ids) return open.filter(({ id }) => selection.ids.ids.includes(id));
  if (selection?.filter) return open.filter((each) => matches(each, selection.filter));
  throw new Refused('INVALID_ARGUMENT', 'selection: which dead letters?');
}

const missing = (selection, gone) => (selection.ids ? selection.ids.ids.length - gone.length : 0);

function lever(world, app, act) {
  (app ? [appOf(world, app)] : world.apps).forEach(act);
  return { held_apps: [] };
}

function forget(each, subject) {
  const dead = each.letters.filter((letter) => same(letter.subject, subject));
  each.letters = each.letters.filter((letter) => !dead.includes(letter));
  each.forgotten = [...(each.forgotten ?? []), JSON.stringify(subject)];
  return {
    app: each.name, pending: 1, in_flight: 0, dead_letters: dead.length, deliveries: 2, quarantined: 0, mentions: 1,
    scan: { entries: 61_204, left: 0, until_settled: 0, newer: 0 },
  };
}

function clientOf({ inflow, suppressed, ...client }) {
  const all = client.accepted_updates;
  return {
    ...client, coalesced_updates: Math.round(all * 0.41), suppressed_updates: Math.round(all * suppressed),
    delivered_rows: Math.round(all * 0.5),
  };
}

function findSubject(each, subject) {
  const letters = each.letters.filter((letter) => same(letter.subject, subject)).reverse();
  const known = /^(u_|company-|grace)/.test(subject.user_id ?? subject.company_id ?? '')
    && !(each.forgotten ?? []).includes(JSON.stringify(subject));
  if (!known) return { deliveries: [], dead_letters: letters, suppressible: false };
  const [now, job] = [Date.now(), each.jobs[3]];
  const record = {
    accepted_at: new Date(now - 42000).toISOString(), first_sequence: 48_201_020, last_sequence: 48_201_311, updates: 3,
    company_id: 'initech', metadata: { plan: 'pro', seats: 12, trial: false, tags: ['a', 'b'], last_seen: null },
  };
  return {
    pending: { client: 'web-app', lane: 'LANE_INTERACTIVE', bytes: 318, ...record },
    in_flight: {
      batch_id: each.jobs[0].batch_id, job_id: each.jobs[0].job_id, express: false, ...record,
      metadata: { plan: 'free', seats: 3 },
    },
    deliveries: [
      delivery(now - 300_000, job, 48_180_002, 48_180_441),
      delivery(now - 4_000_000, null, 48_090_117, 48_090_117),
    ],
    dead_letters: letters, suppressible: true,
  };
}

const delivery = (at, job, first, last) => ({
  delivered_at: new Date(at).toISOString(), batch_id: job?.batch_id ?? '', job_id: job?.job_id ?? '',
  express: job === null, first_sequence: first, last_sequence: last,
});

const TOML = `[server]
grpc_listen = "0.0.0.0:50051"
http_listen = "0.0.0.0:8080"
admin_listen = "127.0.0.1:50052"

[console]
enabled = true

[store]
engine = "sled"
path = "/var/lib/userpilot-gateway"
free_bytes_min = 536870912

[[apps]]
name = "production"
base_url = "https://analytex.userpilot.io"
api_key = "[redacted]"
users_per_minute = 1800
express = true

[[apps]]
name = "marketing-emea"
base_url = "https://analytex-eu.userpilot.io"
api_key = "[redacted]"
users_per_minute = 600

[[admins]]
name = "ada"
token_hashes = ["[redacted]"]
role = "operator"
`;
