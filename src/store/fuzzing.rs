//! Whatever bytes stand in the store: reading them does not panic, and what reads writes the
//! same again.

use std::time::Duration;

use super::{
    engine::redo,
    keys::{self, SUBJECT_AT},
    records::{
        AppState, Closing, Course, Dead, Death, Delivery, Head, InFlight, PageEntry, Present,
        Remembered, Stored, StoredDepth, Tally, Tombstone,
        jobs::{Job, JobRow},
        sealed_for_fuzzing,
    },
};
use crate::domain::{
    ageing::Ageing,
    batch::{Batch, BatchId, BatchLimits, BatchState, DeadReason, Settlement},
    budget::Occupancy,
    delivered::{Delivered, FingerprintKey, Suppression},
    lease::{Lease, ReplicaId},
    lifecycle::Rescue,
    memory::{Experience, Learned, Memory},
    merge::Record,
    row::{self, RowValues},
    sizing::FixedCost,
    time::{Now, Timestamp, Uptime},
    turns::Turn,
    update::{AppId, ByKind, ClientId, Lane, Subject, SubjectKind, Update, Value},
};

/// The kinds of value, as the first byte of an input numbers them.
const KINDS: u8 = 18;

/// A value: its kind, and its bytes. Below `KINDS` they are put behind a right header, as no
/// fuzzer finds a checksum; above they are taken as they are.
pub(crate) fn stored(input: &[u8]) -> bool {
    let Some((kind, bytes)) = input.split_first() else { return false };
    let sealed = sealed_for_fuzzing(bytes);
    let bytes = if *kind < KINDS { &sealed } else { bytes };
    match kind % KINDS {
        0 => reads_and_writes::<Head>(bytes).is_some(),
        1 => reads_and_writes::<AppState>(bytes).is_some(),
        2 => reads_and_writes::<Batch>(bytes).is_some(),
        3 => reads_and_writes::<Vec<PageEntry>>(bytes).is_some(),
        4 => reads_and_writes::<Delivery>(bytes).is_some(),
        5 => reads_and_writes::<u16>(bytes).is_some(),
        6 => reads_and_writes::<Record>(bytes).map(|record| sends(&record)).is_some(),
        7 => reads_and_writes::<InFlight>(bytes).map(|it| sends(&it.record)).is_some(),
        8 => reads_and_writes::<Dead>(bytes).map(|dead| sends(&dead.record)).is_some(),
        9 => reads_and_writes::<Job>(bytes).is_some(),
        10 => reads_and_writes::<Vec<JobRow>>(bytes).is_some(),
        // It has no version: its header is one byte shorter.
        11 => redo(&bytes[usize::from(!bytes.is_empty())..]),
        12 => reads_and_writes::<Rescue>(bytes).is_some(),
        13 => reads_and_writes::<Remembered>(bytes).map(goes_on).is_some(),
        14 => reads_and_writes::<Course>(bytes).is_some(),
        15 => reads_and_writes::<Lease>(bytes).is_some(),
        16 => reads_and_writes::<Present>(bytes).is_some(),
        _ => reads_and_writes::<Tombstone>(bytes).is_some(),
    }
}

fn redo(entry: &[u8]) -> bool {
    let Some(puts) = redo::decode(entry) else { return false };
    let written = redo::encode(&puts);
    assert_eq!(redo::decode(&written), Some(puts), "reading and writing changes a commit");
    true
}

/// Compares bytes, since a float that is not a number is not even itself.
fn reads_and_writes<T: Stored>(bytes: &[u8]) -> Option<T> {
    let value = T::decode(bytes).ok()?;
    let written = value.encode();
    let again = T::decode(&written).expect("what was written reads").encode();
    assert_eq!(written, again, "reading and writing changes a value");
    Some(value)
}

fn sends(record: &Record) {
    let mut line = Vec::new();
    row::write_row(&Subject::user("u"), record, RowValues::Text, &mut line);
    assert!(!line.contains(&b'\n'), "a row of several lines");
    serde_json::from_slice::<serde_json::Value>(&line).expect("a row is JSON");
}

const FINGERPRINTS: FingerprintKey = FingerprintKey(7);
const SUPPRESSION: Suppression =
    Suppression { refresh_after: Duration::from_secs(60), properties_max: 9, account: 0 };

/// More is delivered, and then is in doubt.
fn goes_on(Remembered { epoch, mut delivered }: Remembered) {
    let at = Timestamp::from_micros(1_790_000_000_000_000);
    let record = record(at);
    delivered.feed(&record, (FINGERPRINTS, &SUPPRESSION), at);
    let is_under_way = |_: Option<&str>| false;
    delivered.strike(&mut record.clone(), is_under_way, (FINGERPRINTS, &SUPPRESSION), at);
    delivered.erase(&record, FINGERPRINTS);
    let written = Remembered { epoch, delivered }.encode();
    assert!(reads_and_writes::<Remembered>(&written).is_some(), "what it comes to does not read");
}

/// A key; or, where it names no subject, the id of one.
pub(crate) fn keys(input: &[u8]) -> bool {
    if let Some(subject) = keys::subject_of(input) {
        let again = keys::pending(AppId(0), &subject);
        assert!(input[SUBJECT_AT..].starts_with(&again[SUBJECT_AT..]), "another subject's key");
        if let Some((died_at, last)) = keys::dead_at(input) {
            let of = keys::dead_of(AppId(0), &again[SUBJECT_AT..], died_at, last);
            assert!(keys::all_dead_of(AppId(0), &again[SUBJECT_AT..]).contains(&of));
            assert_eq!(keys::dead_at(&of), Some((died_at, last)));
        }
        return true;
    }
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Some((first, second)) = text.split_once('\n') else { return false };
    if first.len().max(second.len()) > 512 {
        return false;
    }
    let [first, second] = [first, second].map(Subject::user);
    let (app, last) = (AppId(7), 9);
    assert_eq!(keys::subject_of(&keys::pending(app, &first)), Some(first.clone()));
    assert_eq!(keys::subject_of(&keys::delivery(app, &first, last)), Some(first.clone()));
    assert!(keys::all_pending(app, None).contains(&keys::pending(app, &first)));
    let among = keys::deliveries(app, &first, 0).contains(&keys::delivery(app, &second, last));
    assert_eq!(among, first == second, "a delivery among another subject's");
    true
}

fn job(at: Timestamp) -> Job {
    let mut job = Job {
        filename: Some("users.ndjson".into()),
        file_bytes: Some(70),
        rows: 3,
        refused_rows: 1,
        delivered_rows: 1,
        submitted_at: at,
        started_at: Some(at),
        ..Job::default()
    };
    job.note_error(2, "user_id: is empty");
    job
}

/// One value of each kind, as the store holds it, without its header.
pub(crate) fn stored_seeds() -> Vec<Vec<u8>> {
    let at = Timestamp::from_micros(1_790_000_000_000_000);
    let [running, settled] = batches(at);
    let head =
        Head { format: 1, store: 7, last_sequence: 41, last_accepted_at: at, quarantined: 0 };
    let uptime = Uptime { boot: 5, length: Duration::from_secs(99) };
    let length = Duration::from_millis(67);
    let occupancy = Occupancy { until: at, until_uptime: Some(uptime), length };
    let state = AppState {
        depth: StoredDepth { records: 2, bytes: 300 },
        company_records: 1,
        passed_over: Some(SubjectKind::Company),
        turns: ByKind { users: [Turn { client: ClientId(1), left: 2 }; 3], ..ByKind::default() },
        last_batch: 3,
        unsettled: Some(3),
        dead_letters: 1,
        memory: Memory {
            occupancy,
            kinds: ByKind {
                users: Experience {
                    learned: Some(Learned {
                        limits: BatchLimits { rows_max: 500, bytes_max: 1 << 20 },
                        until: at,
                    }),
                    taken_at: Some(at),
                    unproven: 2,
                    cost: FixedCost::default(),
                },
                companies: Experience { taken_at: Some(at), ..Experience::default() },
            },
        },
        dropped: Some((5, 9)),
        ageing: Ageing::default()
            .look(Now { wall: at, uptime: Some(uptime), ..Now::default() }, Duration::from_secs(1)),
        ..AppState::default()
    };
    let page: Vec<_> = [41, 42]
        .map(|first_sequence| PageEntry { first_sequence, subject_key: b"u\0\x01a".to_vec() })
        .into();
    let delivery = Delivery { first_sequence: 40, last_sequence: 42, batch: 3, delivered_at: at };
    let record = record(at);
    let in_flight = InFlight { batch: 3, position: 1, record: record.clone(), forgotten: false };
    let dead = dead(record.clone(), at);
    let redo = redo::encode(&[(&b"h"[..], &head.encode()[..]), (b"a", b"x")]);
    let values = [
        (0, head.encode()),
        (1, state.encode()),
        (2, running.encode()),
        (2, settled.encode()),
        (3, page.encode()),
        (4, delivery.encode()),
        (5, 3_u16.encode()),
        (6, record.encode()),
        (7, in_flight.encode()),
        (8, dead.encode()),
        (9, job(at).encode()),
        (10, vec![JobRow { row: 7, sequence: 41, subject_key: b"u\0\x01a".to_vec() }].encode()),
        (11, [&[0], &redo[..]].concat()),
        (12, Rescue { at, paused: true, job_unknown: true }.encode()),
        (13, remembered(&record, at).encode()),
        (14, course(at).encode()),
        (15, lease(at).encode()),
        (16, Present { seen_at: at, apps: vec![AppId(0), AppId(2)] }.encode()),
        (17, Tombstone { up_to: 41, forgotten_at: at }.encode()),
    ];
    let bare = |(kind, bytes): &(u8, Vec<u8>)| {
        let header = sealed_for_fuzzing(&[]).len();
        [&[*kind], &bytes[header..]].concat()
    };
    let whole = |(kind, bytes): &(u8, Vec<u8>)| [&[kind + KINDS], &bytes[..]].concat();
    values.iter().map(bare).chain(values.iter().map(whole)).collect()
}

/// One that somebody has.
fn lease(until: Timestamp) -> Lease {
    Lease { token: 3, holder: Some(ReplicaId(9)), until, ..Lease::default() }
}

/// A stripe in which one record came to wait and another went.
fn course(at: Timestamp) -> Course {
    Course {
        last_sequence: 41,
        last_accepted_at: at,
        tally: Tally { records: 1, bytes: -20, ..Tally::default() },
        clients: [(ClientId(1), -1)].into(),
        urgent: 2,
        ..Course::default()
    }
}

/// What upstream holds once a record was delivered.
fn remembered(record: &Record, at: Timestamp) -> Remembered {
    let mut delivered = Delivered::default();
    delivered.feed(record, (FINGERPRINTS, &SUPPRESSION), at);
    Remembered { epoch: 1, delivered }
}

/// One that runs and one that is over.
fn batches(at: Timestamp) -> [Batch; 2] {
    let id = BatchId { opening: 0x0123_4567_89ab_cdef, number: 3, app: AppId(0) };
    let running = Batch {
        state: BatchState::Running,
        rows: 2,
        updates: 5,
        bytes: 120,
        submissions: 1,
        submitted_at: Some(at),
        job_id: Some("bulk:jobs:NX-1:c6".to_owned()),
        request_id: Some("GEDdGIKmRewi6ZIAEYcB".to_owned()),
        upstream_status: "processing".to_owned(),
        ..Batch::new(id, SubjectKind::User, 41, at)
    };
    let settled = Batch {
        kind: SubjectKind::Company,
        state: BatchState::Settled(Settlement::Delivered),
        settled_at: Some(at),
        last_error: "503".to_owned(),
        ..running.clone()
    };
    [running, settled]
}

/// What upstream will not take, once replayed.
fn dead(record: Record, at: Timestamp) -> Dead {
    Dead {
        subject_key: b"u\0\x01a".to_vec(),
        death: Death {
            reason: DeadReason::BadRow,
            detail: "422: invalid record".to_owned(),
            batch: BatchId { opening: 0x0123_4567_89ab_cdef, number: 3, app: AppId(0) },
            job_id: None,
            request_id: Some("GEDdGIKmRewi6ZIAEYcB".to_owned()),
        },
        closed: Some((Closing::Superseded, at)),
        record: Record { replayed: vec![(3, 5)], ..record },
    }
}

/// Two updates' worth of every kind of value.
fn record(at: Timestamp) -> Record {
    let properties = |properties: Vec<(&str, Value)>| {
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let update = Update {
        app: AppId(0),
        client: ClientId(1),
        subject: Subject::user("ada"),
        company_id: Some("acme".to_owned()),
        properties: properties(vec![
            ("age", Value::Integer(36)),
            ("plan", Value::Text("pro".to_owned())),
            ("score", Value::Float(0.5)),
        ]),
        occurred_at: None,
        lane: Lane::Bulk,
    };
    let later = Update {
        properties: properties(vec![("left", Value::Null), ("paying", Value::Bool(true))]),
        occurred_at: Some(at),
        lane: Lane::Interactive,
        ..update.clone()
    };
    Record::new(update, 41, at).merge(Record::new(later, 42, at))
}

/// A key of each kind that ends with a subject, and two ids.
pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let company = Subject { kind: SubjectKind::Company, id: "acme".to_owned() };
    let user = Subject::user("ada@example.com");
    vec![
        keys::pending(AppId(0), &user),
        keys::in_flight(AppId(1), &company),
        keys::delivery(AppId(2), &user, 42),
        keys::dead_of(AppId(0), b"u\0\x01a", Timestamp::from_micros(-1), 42),
        b"ada\nbob".to_vec(),
        b"ada\nadam".to_vec(),
    ]
}
