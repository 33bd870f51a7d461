use serde_json::json;

use super::*;
use crate::simulator::timeline::JobStatus;

const START: Duration = Duration::from_secs(1_000);

/// 30 rows a second, and one second of fixed cost.
fn account() -> Account {
    let fixed_cost = Duration::from_secs(1);
    Account::new(&SimulatorConfig { fixed_cost, ..SimulatorConfig::default() })
}

fn at(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

fn row(subject: &str, nth: usize) -> Row {
    let metadata = [("nth".to_owned(), json!(nth))].into();
    Row { subject: subject.to_owned(), company_id: None, metadata }
}

fn users(subjects: &[&str]) -> Submission {
    let rows = subjects.iter().enumerate().map(|(nth, subject)| row(subject, nth)).collect();
    Submission { subjects: Subjects::Users, rows, file: None }
}

fn many(rows: usize) -> Submission {
    let rows = (0..rows).map(|nth| row(&format!("user-{nth}"), nth)).collect();
    Submission { subjects: Subjects::Users, rows, file: None }
}

fn submit(account: &mut Account, ms: u64, submission: Submission) -> Result<String, Refusal> {
    submit_with(account, ms, submission, &JobFate::default())
}

fn submit_with(
    account: &mut Account,
    ms: u64,
    submission: Submission,
    fate: &JobFate,
) -> Result<String, Refusal> {
    let submission = account.admit(at(ms), Ok(submission))?;
    Ok(account.start(at(ms), submission, fate).id.clone())
}

/// The status, the rows completed and the number of profiles.
fn seen(account: &mut Account, ms: u64) -> (JobStatus, usize, usize) {
    account.advance(at(ms));
    let job = account.jobs.back().unwrap();
    (job.status(at(ms)), job.completed_rows, account.profiles.users.len())
}

fn rules(account: &Account) -> Vec<Rule> {
    account.violations.first.iter().map(|violation| violation.kind).collect()
}

#[test]
fn rows_are_applied_at_the_pace_of_the_processing() {
    let mut account = account();
    submit(&mut account, 0, many(60)).unwrap();
    assert_eq!(seen(&mut account, 0), (JobStatus::Queued, 0, 0));
    assert_eq!(seen(&mut account, 250), (JobStatus::Validating, 0, 0));
    assert_eq!(seen(&mut account, 1_500), (JobStatus::Processing, 30, 30));
    assert_eq!(seen(&mut account, 2_500), (JobStatus::PendingRefresh, 60, 60));
    assert_eq!(seen(&mut account, 3_000), (JobStatus::Completed, 60, 60));
}

#[test]
fn a_second_submission_is_a_conflict_and_an_overlap() {
    let mut account = account();
    submit(&mut account, 0, many(60)).unwrap();
    assert_eq!(submit(&mut account, 2_999, many(1)), Err(Refusal::SlotTaken));
    assert_eq!(account.conflicts, 1);
    assert_eq!(rules(&account), [Rule::Overlap]);
    assert!(submit(&mut account, 3_000, many(1)).is_ok());
    assert_eq!(rules(&account), [Rule::Overlap]);
}

#[test]
fn users_and_companies_share_the_slot() {
    let mut account = account();
    submit(&mut account, 0, many(60)).unwrap();
    let companies = Submission { subjects: Subjects::Companies, ..many(1) };
    assert_eq!(submit(&mut account, 100, companies), Err(Refusal::SlotTaken));
}

#[test]
fn a_conflict_with_a_job_the_client_cannot_know_of_breaks_no_rule() {
    let mut account = account();
    account.start_foreign(at(0), 30, None).unwrap();
    assert_eq!(submit(&mut account, 100, many(1)), Err(Refusal::SlotTaken));

    let id = submit(&mut account, 2_000, many(30)).unwrap();
    account.mark_unheard(&id);
    assert_eq!(submit(&mut account, 2_100, many(1)), Err(Refusal::SlotTaken));
    account.tell_of(&id).unwrap();
    assert_eq!(account.conflicts, 2);
    assert_eq!(rules(&account), []);

    assert_eq!(submit(&mut account, 2_200, many(1)), Err(Refusal::SlotTaken));
    assert_eq!(rules(&account), [Rule::Overlap]);
}

#[test]
fn a_foreign_job_holds_the_slot_and_touches_no_profile() {
    let mut account = account();
    account.start_foreign(at(0), 30, Some("theirs.ndjson".to_owned())).unwrap();
    assert_eq!(account.start_foreign(at(0), 30, None).err(), Some(SlotTaken));
    assert_eq!(seen(&mut account, 1_000), (JobStatus::Processing, 15, 0));
    assert_eq!(seen(&mut account, 2_000), (JobStatus::Completed, 30, 0));
}

#[test]
fn a_failed_jobs_occupancy_still_has_to_pass() {
    let check = |ms: u64, expected: &[Rule]| {
        let mut account = account();
        let fate = JobFate { fails_after: Some(0), ..JobFate::default() };
        submit_with(&mut account, 0, many(60), &fate).unwrap();
        submit(&mut account, ms, many(1)).unwrap();
        assert_eq!(rules(&account), expected, "after {ms} ms");
    };
    check(500, &[Rule::Pacing]);
    check(1_994, &[Rule::Pacing]);
    check(1_995, &[]);
    check(2_000, &[]);
}

#[test]
fn speed_shortens_the_occupancy() {
    let config =
        SimulatorConfig { speed: 100.0, fixed_cost: Duration::ZERO, ..SimulatorConfig::default() };
    let mut account = Account::new(&config);
    submit(&mut account, 0, many(3_000)).unwrap();
    assert_eq!(submit(&mut account, 999, many(1)), Err(Refusal::SlotTaken));
    submit(&mut account, 1_000, many(1)).unwrap();
    assert_eq!(rules(&account), [Rule::Overlap]);
}

#[test]
fn a_subject_twice_in_a_job_is_written_down_and_the_last_row_wins() {
    let mut account = account();
    submit(&mut account, 0, users(&["ada", "bob", "ada"])).unwrap();
    assert_eq!(rules(&account), [Rule::DuplicateUser]);
    assert!(account.violations.first[0].detail.contains("line 3"));
    account.advance(at(10_000));
    assert_eq!(account.profiles.users["ada"].metadata["nth"], 2);
}

#[test]
fn a_refused_size_is_written_down() {
    let mut account = account();
    let refusals =
        [Refusal::TooManyRows { rows: 2, rows_max: 1 }, Refusal::TooLarge { bytes_max: 1 }];
    for refusal in refusals {
        assert_eq!(account.admit(at(0), Err(refusal.clone())), Err(refusal));
    }
    assert_eq!(rules(&account), [Rule::TooManyRows, Rule::TooLarge]);
    assert_eq!(account.submissions, 2);
}

#[test]
fn identify_applies_at_once_and_after_the_rows_that_came_before() {
    let mut account = account();
    submit(&mut account, 0, users(&["ada", "bob"])).unwrap();
    account.identify(at(100), vec![(Subjects::Users, row("ada", 70))]);
    assert_eq!(account.profiles.users["ada"].metadata["nth"], 70);
    // The row of the job passes later, and is the newer word.
    account.identify(at(1_000), vec![(Subjects::Users, row("bob", 71))]);
    assert_eq!(account.profiles.users["ada"].metadata["nth"], 0);
    assert_eq!(account.profiles.users["bob"].metadata["nth"], 71);
}

#[test]
fn a_poisoned_user_rejects_the_batch_in_words_that_name_no_row() {
    let mut account = account();
    account.poison.insert("bob".to_owned(), PoisonMode::RejectBatch);
    let refused = submit(&mut account, 0, users(&["ada", "bob"]));
    assert_eq!(refused, Err(Refusal::Invalid("invalid record".to_owned())));
    assert!(submit(&mut account, 0, users(&["ada"])).is_ok());
}

#[test]
fn a_poisoned_user_fails_the_job_at_the_row() {
    let mut account = account();
    account.poison.insert("bob".to_owned(), PoisonMode::FailJob);
    submit(&mut account, 0, users(&["ada", "bob", "cyd"])).unwrap();
    assert_eq!(seen(&mut account, 10_000), (JobStatus::Failed, 1, 1));
}

#[test]
fn a_poisoned_user_is_left_out() {
    let mut account = account();
    account.poison.insert("bob".to_owned(), PoisonMode::SkipRow);
    submit(&mut account, 0, users(&["ada", "bob", "cyd"])).unwrap();
    assert_eq!(seen(&mut account, 10_000), (JobStatus::Completed, 2, 2));
    assert!(!account.profiles.users.contains_key("bob"));
}

#[test]
fn a_partial_job_completes_without_its_last_rows() {
    let mut account = account();
    let fate = JobFate { skip_last: 2, ..JobFate::default() };
    submit_with(&mut account, 0, users(&["ada", "bob", "cyd"]), &fate).unwrap();
    assert_eq!(seen(&mut account, 10_000), (JobStatus::Completed, 1, 1));
}

#[test]
fn a_forgotten_job_is_unknown_but_goes_on() {
    let mut account = account();
    let fate = JobFate { forgotten: true, ..JobFate::default() };
    let id = submit_with(&mut account, 0, users(&["ada"]), &fate).unwrap();
    assert!(account.tell_of(&id).is_none());
    assert_eq!(submit(&mut account, 100, many(1)), Err(Refusal::SlotTaken));
    assert_eq!(rules(&account), []);
    assert_eq!(seen(&mut account, 10_000).2, 1);
}

#[test]
fn the_six_hundred_and_first_identify_of_a_minute_is_turned_away() {
    let mut account = account();
    for _ in 0..600 {
        account.take_identify(at(0)).unwrap();
    }
    let refusal = Refusal::TooManyRequests { retry_after_s: 60 };
    assert_eq!(account.take_identify(at(1)), Err(refusal));
    assert_eq!(rules(&account), [Rule::Rate]);
    account.take_track(at(1)).unwrap();
    account.take_identify(at(60_000)).unwrap();
}
