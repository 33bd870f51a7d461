import { answer } from './answers.mjs';

// States that are hard to reach for real. Each changes what the pretend gateway answers.

const LONG = 'customer-success-and-lifecycle-marketing-eu-central-1-production-blue';

const first = (change) => (status) => ({
  ...status, apps: status.apps.map((app, n) => (n === 0 ? { ...app, ...change(app) } : app)),
});

const unset = {
  current_job: undefined, oldest_pending_age: undefined, freshness_p50: undefined, freshness_p99: undefined,
};

export const SCENARIOS = {
  normal: {},
  // Nothing answers.
  down: { down: true },
  // The stream of events does not come through, the rest does.
  'no-events': { noEvents: true },
  // A proxy holds back what the stream says, or the stream and the head of its answer.
  'silent-events': { withheld: 'body' },
  'stuck-events': { withheld: 'all' },
  // One app is held: what it keeps is not searched.
  'held-app': {
    answers: {
      ForgetSubject: ({ subject }, world) => ({
        ...answer(world, 'ForgetSubject', { app: world.apps[0].name, subject }), held_apps: ['marketing-emea'],
      }),
    },
  },
  // Every session is over.
  'signed-out': { signedOut: true },
  'not-ready': {
    status: (status) => ({
      ...status, ready: false, not_ready_reason: 'the disk is nearly full: less than store.free_bytes_min is free',
      config_problem: 'apps[0].users_per_minute: 0 is below 1',
      store: { ...status.store, quarantined_records: 3, free_bytes: 41_943_040 },
    }),
  },
  'key-rejected': {
    status: first(() => ({
      state: 'APP_STATE_KEY_REJECTED', draining: false,
      summary: 'Userpilot refuses the API key (401: unauthorized); tries again in 58 s.',
      last_error: '401: unauthorized', failing_since: new Date(Date.now() - 190000).toISOString(),
      retry_at: new Date(Date.now() + 58000).toISOString(), failed_attempts: 4, current_job: undefined,
    })),
  },
  'nearly-full': {
    status: (status) => first(() => ({ pending_records: 4_100_000 }))({ ...status, config_problem: '' }),
  },
  'config-refused': {
    status: (status) => ({ ...status, config_problem: 'apps[0].users_per_minute: 0 is below 1' }),
  },
  'paused-and-held': {
    status: (status) => ({
      ...status,
      apps: status.apps.map((app, n) => ({
        ...app,
        ...(n === 0 ? { state: 'APP_STATE_PAUSED', summary: 'Paused by an operator.', paused: true, draining: false }
          : { state: 'APP_STATE_HALTED', halted_kinds: [], held_reason: '3 records are damaged' }),
      })),
    }),
  },
  'slot-taken': {
    status: first(() => ({
      state: 'APP_STATE_SLOT_TAKEN', draining: false, current_job: undefined, last_error: '503',
      failing_since: new Date(Date.now() - 190000).toISOString(),
      summary: 'Somebody else’s job (job job_77aa01, file "contacts-2026.csv") holds the account’s only ' +
        'slot; tries again in 12 s.',
      slot_holder: { job_id: 'job_77aa01', filename: 'contacts-2026.csv', is_gateway: false },
    })),
  },
  'long-names': {
    status: first(() => ({
      app: LONG, summary: `A job of 10000 users runs; ${'4'.repeat(40)} done.`, pending_records: 123_456_789_012,
      last_error: `422: ${'metadata.a_very_long_property_name_'.repeat(8)}`, failing_since: new Date().toISOString(),
    })),
    answers: {
      ListClients: (_, world) => ({
        clients: world.clients.map((client) => ({ ...client, name: `${client.name}-${LONG}` })),
      }),
      ListJobs: () => ({ jobs: [], next_page_token: '' }),
      ListDeadLetters: () => ({ dead_letters: [], next_page_token: '' }),
      GetHistory: () => ({ interval: '5s', time: [], budget_per_second: 30 }),
    },
  },
  // A gateway that has just been started for the first time.
  empty: {
    status: (status) => ({
      ...status,
      apps: [{
        ...status.apps[0], ...unset, state: 'APP_STATE_IDLE', summary: 'Nothing waits.', pending_records: 0,
        dead_letters: 0, pending_bulk_records: 0, pending_express_records: 0, pending_companies: 0,
        drain_eta: '0s', in_flight_records: 0, utilisation: 0,
      }],
    }),
    answers: {
      ListClients: () => ({ clients: [] }),
      ListJobs: () => ({ jobs: [], next_page_token: '' }),
      ListDeadLetters: () => ({ dead_letters: [], next_page_token: '' }),
      GetHistory: () => ({ interval: '5s', time: [], budget_per_second: 30 }),
    },
  },
};
