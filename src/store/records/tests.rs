//! Everything that is stored reads back, and nothing else does.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    ageing::Ageing,
    batch::{BatchId, BatchLimits, BatchState, Cut, DeadReason, Settlement},
    budget::Occupancy,
    lease::{ReplicaId, Wishes},
    memory::{Experience, Learned},
    sizing::FixedCost,
    testing,
    time::{Now, Uptime},
    update::AppId,
};

fn reads_back<T: Stored + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(T::decode(&value.encode()).as_ref(), Ok(value));
}

fn batch() -> impl Strategy<Value = Batch> {
    let state = prop_oneof![
        Just(BatchState::Claiming),
        Just(BatchState::Claimed),
        Just(BatchState::Submitting),
        Just(BatchState::Running),
        Just(BatchState::Settling(Settlement::Requeued)),
        Just(BatchState::Settled(Settlement::Delivered)),
        Just(BatchState::Settled(Settlement::Split(Cut::Probe(7)))),
        Just(BatchState::Settling(Settlement::Dead(DeadReason::NotTaken))),
    ];
    (state, any::<[u64; 6]>(), ".{0,9}", proptest::option::of(".{0,9}")).prop_map(
        |(state, [store, number, watermark, rows, updates, bytes], text, option)| {
            let id = BatchId { opening: store, number, app: AppId(3) };
            Batch {
                state,
                rows,
                updates,
                bytes,
                submissions: 7,
                submitted_at: option.as_ref().map(|_| Timestamp::from_micros(-9)),
                job_id: option.clone(),
                request_id: option,
                upstream_status: text.clone(),
                completed_rows: rows,
                settled_at: None,
                last_error: text,
                ..Batch::new(id, SubjectKind::Company, watermark, Timestamp::from_micros(8))
            }
        },
    )
}

proptest! {
    #[test]
    fn records_read_back(
        records in (1..9_usize).prop_flat_map(testing::records),
        batch: u64,
        position: u64,
    ) {
        let record = records.into_iter().reduce(Record::merge).expect("at least one");
        reads_back(&record);
        reads_back(&InFlight { batch, position, record: record.clone(), forgotten: position % 2 == 0 });
        let death = Death {
            reason: DeadReason::BadRow,
            detail: "422: no".into(),
            batch: BatchId { opening: position, number: batch, app: AppId(7) },
            job_id: None,
            request_id: Some("r".into()),
        };
        let closed = Some((Closing::Superseded, Timestamp::from_micros(9)));
        reads_back(&Dead { subject_key: vec![b'u', 0, 1, b'x'], death, closed, record });
    }

    #[test]
    fn the_rest_reads_back(
        numbers: [u64; 4],
        micros: i64,
        subject_key in prop::collection::vec(any::<u8>(), 0..40),
        paused: bool,
        batch in batch(),
    ) {
        let [a, b, c, d] = numbers;
        let at = Timestamp::from_micros(micros);
        reads_back(&batch);
        reads_back(&Head {
            format: 1,
            store: a,
            last_sequence: b,
            last_accepted_at: at,
            quarantined: c,
        });
        reads_back(&Delivery { first_sequence: a, last_sequence: d, batch: b, delivered_at: at });
        reads_back(&Rescue { at, paused, job_unknown: !paused });
        let tally = Tally { records: micros, bytes: -micros.saturating_abs(), ..Tally::default() };
        reads_back(&Course {
            last_sequence: a,
            last_accepted_at: at,
            quarantined: c,
            tally,
            clients: [(ClientId(3), micros)].into(),
            urgent: b,
            express: d,
        });
        reads_back(&vec![PageEntry { first_sequence: d, subject_key: subject_key.clone() }]);
        let view = subject_key;
        let wishes = Wishes { flushes: c };
        reads_back(&Lease { token: a, holder: Some(ReplicaId(b)), until: at, wishes, view });
        reads_back(&Present { seen_at: at, apps: vec![AppId(7)] });
        let turn = Turn { client: ClientId(7), left: 3 };
        let mut cost = FixedCost::default();
        cost.learn(Duration::from_millis(c % 5_000));
        reads_back(&AppState {
            depth: StoredDepth { records: a, bytes: b },
            bulk_records: c,
            express_records: a,
            company_records: b,
            passed_over: Some(SubjectKind::Company),
            turns: ByKind { users: [turn; 3], companies: [Turn::default(); 3] },
            last_batch: d,
            forgotten_batches: b,
            unsettled: Some(a),
            express_in_flight: d,
            dead_letters: d,
            memory: Memory {
                occupancy: Occupancy {
                    until: at,
                    until_uptime: Some(Uptime { boot: a, length: Duration::from_nanos(c) }),
                    length: Duration::from_nanos(b),
                },
                kinds: ByKind {
                    users: Experience {
                        learned: Some(Learned {
                            limits: BatchLimits { rows_max: a, bytes_max: b },
                            until: at,
                        }),
                        taken_at: Some(at),
                        unproven: 3,
                        cost,
                    },
                    companies: Experience { unproven: 4, ..Experience::default() },
                },
            },
            paused,
            dropped: Some((a, d)),
            ageing: Ageing::default().look(Now { wall: at, ..Now::default() }, Duration::ZERO),
            remembers: paused,
            epoch: 3,
        });
    }

    #[test]
    fn any_flipped_bit_is_noticed(
        records in testing::records(1),
        place: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let mut bytes = records[0].encode();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(Record::decode(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Record::decode(&bytes));
        let sealed = sealed_for_fuzzing(&bytes);
        drop(Record::decode(&sealed));
        drop(InFlight::decode(&sealed));
        drop(Batch::decode(&sealed));
        drop(Dead::decode(&sealed));
        drop(Vec::<PageEntry>::decode(&sealed));
        drop(Course::decode(&sealed));
        drop(Lease::decode(&sealed));
    }
}

proptest! {
    #[test]
    fn what_was_counted_since_leads_from_one_state_to_the_other(
        before: [u32; 7],
        after: [u32; 7],
    ) {
        let state = |counts: [u32; 7]| {
            let [records, bytes, bulk_records, express_records, company_records, flying, dead] =
                counts.map(u64::from);
            AppState {
                depth: StoredDepth { records, bytes },
                bulk_records,
                express_records,
                company_records,
                express_in_flight: flying,
                dead_letters: dead,
                ..AppState::default()
            }
        };
        let (before, after) = (state(before), state(after));
        let tally = Tally::between(&before, &after);
        prop_assert_eq!(before.with(tally), after);
        prop_assert_eq!(before.with(tally.plus(Tally::between(&after, &before))), before);
    }
}
