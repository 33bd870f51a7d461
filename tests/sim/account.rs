//! The account at Userpilot, in virtual time: one job slot, a pace, profiles that are
//! upserted. Written from its documents, sharing nothing with the gateway. It takes notice of
//! every rule that is broken, rather than being polite about it.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use userpilot_gateway::domain::update::{Subject, SubjectKind};

use crate::{
    random::Random,
    scenario::{Fault, Scenario},
};

/// A property of a user: which, and which update its value came from.
pub(crate) type Write = (u64, u64);
/// Stands for `company_id` where properties are numbered.
pub(crate) const COMPANY: u64 = u64::MAX;

/// Subjects are numbered: users below this, companies from here on.
const COMPANIES: u64 = 1 << 40;

/// The number of the company with this number among companies.
pub(crate) fn company(number: u64) -> u64 {
    COMPANIES + number
}

/// What a subject's number stands for.
pub(crate) fn subject_of(number: u64) -> Subject {
    match number.checked_sub(COMPANIES) {
        Some(company) => Subject::company(format!("k{company}")),
        None => Subject::user(format!("u{number}")),
    }
}

/// The number of a subject.
pub(crate) fn number_of(subject: &Subject) -> Option<u64> {
    match subject.kind {
        SubjectKind::User => subject.id.strip_prefix('u')?.parse().ok(),
        SubjectKind::Company => subject.id.strip_prefix('k')?.parse().ok().map(company),
    }
}

/// One subject's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) user: u64,
    pub(crate) writes: Vec<Write>,
}

/// What upstream saw.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// A job was taken that holds this row.
    Taken(Row),
    /// A row was written to its profile. `mark`: how many updates had been sent when its job
    /// was taken.
    Applied { row: Row, mark: u64, by_express: bool },
}

/// How a job is going to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Well.
    Completes,
    /// `failed`, after so many rows.
    Fails(usize),
    /// `completed`, with so many rows.
    Partial(usize),
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// The name of its file; somebody else's have another kind of name.
    pub(crate) filename: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) applied: usize,
    pub(crate) fate: Fate,
    pub(crate) ours: bool,
    pub(crate) forgotten: bool,
    /// The gateway has asked after it and was told.
    pub(crate) is_heard_of: bool,
    pub(crate) taken_at: Duration,
    pub(crate) ends_at: Duration,
    mark: u64,
}

impl Job {
    /// How many of its rows it is ever going to write.
    pub(crate) fn rows_in_the_end(&self) -> usize {
        match self.fate {
            Fate::Completes => self.rows.len(),
            Fate::Fails(rows) | Fate::Partial(rows) => rows.min(self.rows.len()),
        }
    }
}

/// The account.
#[derive(Debug)]
pub(crate) struct Account {
    /// Virtual time.
    pub(crate) now: Duration,
    /// How many updates have been sent to the gateway.
    pub(crate) mark: u64,
    /// All jobs there ever were, oldest first.
    pub(crate) jobs: Vec<Job>,
    /// What it saw since somebody looked.
    pub(crate) sights: Vec<Sight>,
    /// The rules that were broken.
    pub(crate) broken: Vec<String>,
    /// Since when an operator has had delivery paused.
    pub(crate) paused_since: Option<Duration>,
    /// Requests, in all.
    pub(crate) requests: u64,
    /// Of these, submissions, and the rows in them.
    pub(crate) submissions: u64,
    pub(crate) submitted_rows: u64,
    rows_max: u64,
    bytes_max: u64,
    users_per_minute: u32,
    progressive: bool,
    /// Whether lists show every job that runs.
    lists_all: bool,
    /// How much too early is borne, where clocks run at rates of their own.
    pub(crate) early_max: Duration,
    /// Until when our last job occupies the budget.
    occupied_until: Duration,
    /// When the latest requests came, to notice a client that hammers.
    latest: [Duration; HAMMERING],
    /// When the requests of the last minute came to the real-time endpoint, and how many may.
    identified_at: VecDeque<Duration>,
    identify_per_minute: u32,
}

/// What is under way when an operator pauses is finished, within this much.
const PAUSE_WITHIN: Duration = Duration::from_secs(120);
/// So many requests within [`HAMMERING_WITHIN`] are too many for a client that waits where
/// it should.
const HAMMERING: usize = 100;
const HAMMERING_WITHIN: Duration = Duration::from_secs(30);

impl Account {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            now: Duration::ZERO,
            mark: 0,
            jobs: Vec::new(),
            sights: Vec::new(),
            broken: Vec::new(),
            paused_since: None,
            requests: 0,
            submissions: 0,
            submitted_rows: 0,
            rows_max: scenario.settings.batch.rows_max,
            bytes_max: scenario.settings.batch.bytes_max,
            users_per_minute: scenario.settings.users_per_minute,
            progressive: scenario.progressive,
            lists_all: !Fault::OF_LISTS.iter().any(|fault| scenario.has(*fault)),
            early_max: Duration::ZERO,
            occupied_until: Duration::ZERO,
            latest: [Duration::ZERO; HAMMERING],
            identified_at: VecDeque::new(),
            identify_per_minute: scenario.express.per_minute,
        }
    }

    /// Lets time pass until `now`: jobs proceed.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        for job in self.jobs.iter_mut().filter(|job| job.applied < job.rows_in_the_end()) {
            let all = job.rows_in_the_end();
            let due = if self.now >= job.ends_at {
                all
            } else if self.progressive {
                let elapsed = (self.now.saturating_sub(job.taken_at)).as_millis();
                let length = (job.ends_at.saturating_sub(job.taken_at)).as_millis().max(1);
                let due = all as u128 * elapsed / length;
                usize::try_from(due).unwrap_or(all).min(all)
            } else {
                0
            };
            for row in job.rows.iter().take(due).skip(job.applied) {
                self.sights.push(Sight::Applied {
                    row: row.clone(),
                    mark: job.mark,
                    by_express: false,
                });
            }
            job.applied = job.applied.max(due);
        }
    }

    /// The job that holds the slot.
    pub(crate) fn running(&self) -> Option<&Job> {
        self.jobs.iter().find(|job| job.ends_at > self.now)
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self) {
        let place = usize::try_from(self.requests).unwrap_or(0) % HAMMERING;
        let so_many_ago = std::mem::replace(&mut self.latest[place], self.now);
        self.requests += 1;
        if self.requests > HAMMERING as u64 && self.now - so_many_ago < HAMMERING_WITHIN {
            self.broken.push(format!("{HAMMERING} requests since {so_many_ago:?}"));
        }
    }

    /// A submission arrives: the rules are held against it, whatever it will be answered.
    /// Users and companies have an endpoint each.
    pub(crate) fn inspect(&mut self, kind: SubjectKind, upload: &[u8]) -> Vec<Row> {
        // Of a job that outlasts its occupancy, whose answer was lost and which no list shows, only
        // the 409 can tell.
        let may_be_unknown = |job: &Job| {
            let is_unheard_of = job.forgotten || !job.is_heard_of;
            !self.lists_all && is_unheard_of && self.now >= self.occupied_until
        };
        if self.running().is_some_and(|job| job.ours && !may_be_unknown(job)) {
            self.broken.push("submitted while a job of its own runs".into());
        }
        if self.now + self.early_max < self.occupied_until {
            let early = self.occupied_until - self.now;
            self.broken.push(format!("submitted {early:?} before the last job's occupancy passed"));
        }
        if self.paused_since.is_some_and(|since| self.now - since > PAUSE_WITHIN) {
            self.broken.push("submitted while paused".into());
        }
        let rows: Vec<Row> =
            upload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(read).collect();
        if rows.iter().any(|row| subject_of(row.user).kind != kind) {
            self.broken.push(format!("a row of another kind in a job of kind {kind}"));
        }
        self.submissions += 1;
        self.submitted_rows += rows.len() as u64;
        let users: BTreeSet<u64> = rows.iter().map(|row| row.user).collect();
        if users.len() < rows.len() {
            self.broken.push("a user twice in one job".into());
        }
        if rows.is_empty() || rows.len() as u64 > self.rows_max {
            self.broken.push(format!("{} rows in one job", rows.len()));
        }
        if rows.len() > 1 && upload.len() as u64 > self.bytes_max {
            self.broken.push(format!("{} bytes in one job", upload.len()));
        }
        rows
    }

    /// A request to the real-time endpoint arrives: the rules are held against it.
    pub(crate) fn inspect_identify(&mut self, kind: SubjectKind, body: &[u8]) -> Row {
        self.identified_at.push_back(self.now);
        let minute_ago = self.now.checked_sub(Duration::from_secs(60));
        while self.identified_at.front().is_some_and(|at| Some(*at) <= minute_ago) {
            self.identified_at.pop_front();
        }
        let count = self.identified_at.len();
        if count > usize::try_from(self.identify_per_minute).unwrap_or(0) {
            self.broken.push(format!("{count} requests by express in a minute"));
        }
        if self.paused_since.is_some() {
            self.broken.push("sent by express while paused".into());
        }
        let row = read(body);
        if subject_of(row.user).kind != kind {
            self.broken.push(format!("a request of another kind than {kind}"));
        }
        row
    }

    /// Writes a profile at once.
    pub(crate) fn identify(&mut self, row: Row) {
        self.sights.push(Sight::Taken(row.clone()));
        self.sights.push(Sight::Applied { row, mark: self.mark, by_express: true });
    }

    /// Takes a job. `overrun` is how much longer it takes than its share of the budget.
    pub(crate) fn take(
        &mut self,
        filename: String,
        rows: Vec<Row>,
        fate: Fate,
        (random, overrun): (&mut Random, Duration),
    ) -> String {
        let micros = rows.len() as u64 * 60_000_000 / u64::from(self.users_per_minute);
        let occupancy = Duration::from_micros(micros);
        self.occupied_until = self.now + occupancy;
        // The pace is the most that it takes: a service with nothing else to do may be quicker.
        let length = occupancy * u32::try_from(random.between(30, 100)).unwrap_or(100) / 100;
        self.sights.extend(rows.iter().cloned().map(Sight::Taken));
        self.push(filename, rows, fate, true, length + overrun)
    }

    /// Somebody else gets the slot for a while, if it is free.
    pub(crate) fn take_foreign(&mut self, length: Duration) {
        if self.running().is_none() {
            self.push("theirs.csv".into(), Vec::new(), Fate::Completes, false, length);
        }
    }

    fn push(
        &mut self,
        filename: String,
        rows: Vec<Row>,
        fate: Fate,
        ours: bool,
        length: Duration,
    ) -> String {
        let id = format!("bulk:jobs:{}", self.jobs.len() + 1);
        self.jobs.push(Job {
            id: id.clone(),
            filename,
            rows,
            applied: 0,
            fate,
            ours,
            forgotten: false,
            is_heard_of: false,
            taken_at: self.now,
            ends_at: self.now + length,
            mark: self.mark,
        });
        id
    }
}

/// Reads a row. What is not as the documents say ends the run.
fn read(line: &[u8]) -> Row {
    let row: serde_json::Value = serde_json::from_slice(line).expect("a row is JSON");
    let number = |text: &str, kind: char| -> u64 {
        let digits = text.strip_prefix(kind).expect("a known kind of name");
        digits.parse().expect("a known name")
    };
    let text = |key: &str| row.get(key).map(|id| id.as_str().expect("ids are strings"));
    let mut writes = Vec::new();
    let user = match (text("user_id"), text("company_id")) {
        (Some(user), of_company) => {
            writes.extend(of_company.map(|id| (COMPANY, number(id, 'c'))));
            // By express it stands under both of its keys.
            if let Some(company) = row.get("company") {
                assert_eq!(company["id"], company["company_id"]);
                let id = company["id"].as_str().expect("ids are strings");
                writes.push((COMPANY, number(id, 'c')));
            }
            number(user, 'u')
        }
        (None, Some(id)) => company(number(id, 'k')),
        (None, None) => panic!("a row of nobody"),
    };
    let metadata = row.get("metadata").and_then(serde_json::Value::as_object);
    for (name, value) in metadata.into_iter().flatten() {
        let text = value.as_str().map(|text| number(text, 'v'));
        let update = text.or(value.as_u64()).expect("a value that some update had");
        writes.push((number(name, 'p'), update));
    }
    Row { user, writes }
}
