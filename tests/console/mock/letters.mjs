// Dead letters as they look.
const KINDS = [
  ['DEAD_LETTER_REASON_BAD_ROW', '422: metadata.seats must be a number, was "unlimited"',
    { plan: 'enterprise', seats: 'unlimited' }],
  ['DEAD_LETTER_REASON_BAD_ROW', '400: created_at is not a date', { created_at: 'yesterday', trial: true }],
  ['DEAD_LETTER_REASON_TOO_LARGE', '413: a row may have 64 KiB', { notes: 'x'.repeat(300), tags: ['a', 'b'] }],
  ['DEAD_LETTER_REASON_JOB_FAILED', 'the job failed: internal error', { plan: 'pro', company: { name: 'Initech' } }],
  ['DEAD_LETTER_REASON_NOT_TAKEN', 'completed without it', { last_seen: null, seats: 4 }],
];
const PEOPLE = ['u_20418', 'u_77120', 'grace@example.com', 'u_9', 'auth0|64f1c2', 'u_31337', '<b>bold</b>'];

export function deadLetters(app, number, n) {
  const now = Date.now();
  return Array.from({ length: n }, (_, at) => letterOf(app, number, at, now - (n - at) * 97000));
}

function letterOf(app, number, at, died) {
  const [reason, detail, metadata] = KINDS[at % KINDS.length];
  const company = at % 6 === 5;
  const id = company ? `company-${at}` : `${PEOPLE[at % PEOPLE.length]}${at > 6 ? `-${at}` : ''}`;
  return {
    app, id: `${Math.floor(died / 1000)}000000-${48_000_000 + at}`,
    subject: company ? { company_id: id } : { user_id: id },
    reason, detail, batch_id: `9f3c51d2a80b7e46-${number}-${4100 + at}`,
    job_id: reason.endsWith('ROW') ? '' : `job_${(at + 4096).toString(16)}`,
    request_id: `req_${(at + 70000).toString(16)}`,
    died_at: new Date(died).toISOString(), accepted_at: new Date(died - 140000).toISOString(),
    first_sequence: 47_900_000 + at * 10, last_sequence: 47_900_000 + at * 10 + 3 * (at % 4), updates: 1 + (at % 4),
    state: at % 11 === 10 ? 'DEAD_LETTER_STATE_DISCARDED' : 'DEAD_LETTER_STATE_OPEN',
    ...(at % 11 === 10 && { closed_at: new Date(died + 60000).toISOString() }),
    ...(!company && { company_id: 'initech' }), metadata: at % 11 === 10 ? {} : metadata,
  };
}
