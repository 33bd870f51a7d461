//! A batch, its name and its limits.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_left_of_limits_without_a_part_is_never_less_than_nothing() {
    let limits = BatchLimits { rows_max: 10, bytes_max: 100 };
    let left = limits.without(BatchLimits { rows_max: 3, bytes_max: 40 });
    assert_eq!(left, BatchLimits { rows_max: 7, bytes_max: 60 });
    let left = limits.without(BatchLimits { rows_max: 11, bytes_max: 101 });
    assert_eq!(left, BatchLimits { rows_max: 0, bytes_max: 0 });
}

proptest! {
    #[test]
    fn a_batch_id_reads_back(opening: u64, number: u64, app: u16) {
        let id = BatchId { opening, number, app: AppId(app) };
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(is_gateway_filename(&id.filename()));
        prop_assert_eq!(BatchId::of_filename(&id.filename()), Some(id));
        for other in [id.to_string(), id.filename().to_uppercase(), id.filename() + "x"] {
            prop_assert_eq!(BatchId::of_filename(&other), None);
        }
    }

    #[test]
    fn an_id_of_another_kind_is_not_read(id in "[0-9a-f]{8}-[0-9]{4}-[0-9]{4}-[0-9a-f]{4}") {
        prop_assert_eq!(id.parse::<BatchId>(), Err(()));
    }

    #[test]
    fn a_batch_never_exceeds_its_limits(
        sizes in prop::collection::vec(1..40_u64, 0..80),
        rows_max in 1..30_u64,
        bytes_max in 40..400_u64,
    ) {
        let limits = BatchLimits { rows_max, bytes_max };
        let (mut rows, mut bytes) = (0, 0);
        for size in sizes {
            if limits.fit(rows, bytes, size) {
                rows += 1;
                bytes += size;
            }
        }
        prop_assert!(rows <= rows_max && bytes <= bytes_max);
    }
}

#[test]
fn a_file_of_somebody_else_is_known_by_its_name() {
    for name in ["users.ndjson", "userpilot-gateway-users.csv", ""] {
        assert!(!is_gateway_filename(name), "{name}");
        assert_eq!(BatchId::of_filename(name), None, "{name}");
    }
}

#[test]
fn a_batch_takes_rows_up_to_its_limits_and_the_first_one_whatever_its_size() {
    let limits = BatchLimits { rows_max: 3, bytes_max: 100 };
    assert!(limits.fit(0, 0, 101));
    assert!(limits.fit(1, 40, 60));
    assert!(limits.fit(2, 98, 2));
    assert!(!limits.fit(2, 98, 3));
    assert!(!limits.fit(3, 3, 1));
}

#[test]
fn a_part_holds_the_rows_between_its_places() {
    let part = Part { origin: 7, first: 2, end: 4 };
    let held: Vec<u64> = (0..6).filter(|position| part.holds(7, *position)).collect();
    assert_eq!(held, [2, 3]);
    assert!(!part.holds(8, 2));
}

#[test]
fn a_former_job_is_remembered_until_upstreams_list_will_not_show_it() {
    let id = BatchId { opening: 7, number: 1, app: AppId(0) };
    let mut batch = Batch::new(id, SubjectKind::User, 9, Timestamp::default());
    batch.give_up_job();
    assert_eq!(batch.former_jobs, [""; 0]);
    for job in 0..22 {
        batch.job_id = Some(job.to_string());
        batch.give_up_job();
        assert_eq!(batch.job_id, None);
    }
    let last_20: Vec<String> = (2..22).map(|job: i32| job.to_string()).collect();
    assert_eq!(batch.former_jobs, last_20);
}

#[test]
fn a_reason_is_told_in_a_word() {
    let words = DeadReason::ALL.map(|reason| reason.to_string());
    assert_eq!(words, ["bad_row", "too_large", "job_failed", "not_taken"]);
}
