//! What Userpilot will not take, end to end: it alone is set aside, and comes back when told.

mod commands;
mod halts;

use std::collections::BTreeSet;

use serde_json::json;
use tonic::Code;
use userpilot_gateway::{
    proto::{
        AllDeadLetters, DeadLetter, DeadLetterFilter, DeadLetterIds, DeadLetterReason,
        DeadLetterSelection, DeadLetterState, DiscardDeadLettersRequest, ExportDeadLettersRequest,
        GetDeadLetterRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
        ReplayDeadLettersResponse, Subject, UpdateState, dead_letter_selection::Selection,
        get_update_response::Detail, subject,
    },
    simulator::PoisonMode,
};

use crate::rig::{Change, Stage, applied, at_speed, same_profiles, settled};

const USERS: usize = 1_000;
/// Among others, the first and the last, and two that stand side by side.
const POISONED: [usize; 5] = [0, 123, 500, 501, 999];

fn user(nth: usize) -> String {
    format!("user-{nth}")
}

fn poisoned() -> Vec<String> {
    POISONED.map(user).into()
}

fn changes() -> Vec<Change> {
    let change = |nth| {
        let change = Change::new(user(nth), json!({"nth": nth, "plan": "pro", "ended": null}));
        if nth % 2 == 0 { change.of_company("acme") } else { change }
    };
    (0..USERS).map(change).collect()
}

/// A stage whose gateway sends the thousand as one batch.
async fn stage() -> Stage {
    Stage::of(at_speed(100), |site| site.with("app.linger_ms", 200)).await
}

fn all() -> DeadLetterSelection {
    DeadLetterSelection { selection: Some(Selection::All(AllDeadLetters {})) }
}

fn these(ids: impl IntoIterator<Item = String>) -> DeadLetterSelection {
    let ids = DeadLetterIds { ids: ids.into_iter().collect() };
    DeadLetterSelection { selection: Some(Selection::Ids(ids)) }
}

fn of_user(user_id: &str) -> DeadLetterFilter {
    let id = Some(subject::Id::UserId(user_id.to_owned()));
    DeadLetterFilter { subject: Some(Subject { id }), ..DeadLetterFilter::default() }
}

fn user_of(letter: &DeadLetter) -> String {
    match letter.subject.as_ref().unwrap().id.as_ref().unwrap() {
        subject::Id::UserId(id) => id.clone(),
        subject::Id::CompanyId(id) => panic!("company {id}"),
    }
}

/// The dead letters, page by page, each as it is shown.
async fn listed(
    stage: &Stage,
    filter: Option<DeadLetterFilter>,
    include_closed: bool,
) -> Vec<DeadLetter> {
    let mut admin = stage.gateway.admin().await;
    let mut request =
        ListDeadLettersRequest { filter, include_closed, page_size: 2, ..Default::default() };
    let mut letters = Vec::new();
    loop {
        let page = admin.list_dead_letters(request.clone()).await.unwrap().into_inner();
        assert!(page.dead_letters.len() <= 2);
        for listed in page.dead_letters {
            assert_eq!((&listed.metadata, &listed.company_id), (&None, &None), "values in a list");
            let request = GetDeadLetterRequest { app: listed.app.clone(), id: listed.id.clone() };
            let shown = admin.get_dead_letter(request).await.unwrap().into_inner();
            let shown = shown.dead_letter.unwrap();
            let without = DeadLetter { metadata: None, company_id: None, ..shown.clone() };
            assert_eq!(without, listed);
            letters.push(shown);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return letters;
        }
    }
}

async fn replayed(stage: &Stage, selection: DeadLetterSelection) -> ReplayDeadLettersResponse {
    let request = ReplayDeadLettersRequest { app: String::new(), selection: Some(selection) };
    stage.gateway.admin().await.replay_dead_letters(request).await.unwrap().into_inner()
}

async fn discarded(stage: &Stage, selection: DeadLetterSelection) -> (u64, u64) {
    let request = DiscardDeadLettersRequest { app: String::new(), selection: Some(selection) };
    let answer = stage.gateway.admin().await.discard_dead_letters(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.discarded, answer.not_there)
}

fn is_innocent(change: &Change) -> bool {
    !poisoned().contains(&change.user_id)
}

#[tokio::test]
async fn the_poisoned_rows_alone_are_set_aside_and_come_back_when_replayed() {
    for (mode, reason, words) in [
        (PoisonMode::RejectBatch, DeadLetterReason::BadRow, "422: invalid record"),
        (PoisonMode::FailJob, DeadLetterReason::JobFailed, "ended failed with 0 of 1 rows"),
        (PoisonMode::SkipRow, DeadLetterReason::NotTaken, "ended completed with 0 of 1 rows"),
    ] {
        let stage = stage().await;
        stage.simulator.poison(poisoned(), mode);
        let receipts = stage.sent(&changes()).await;
        stage.delivers(changes().iter().filter(|change| is_innocent(change))).await;

        let letters = listed(&stage, None, false).await;
        let users: BTreeSet<String> = letters.iter().map(user_of).collect();
        assert_eq!(users, poisoned().into_iter().collect());
        assert!(
            letters.is_sorted_by_key(|letter| { letter.died_at.map(|at| (at.seconds, at.nanos)) })
        );
        for letter in &letters {
            check_letter(letter, reason, words);
            let update = stage.gateway.update(&receipts[nth_of(letter)]).await;
            assert_eq!(update.state(), UpdateState::Dead);
            let Some(Detail::Dead(detail)) = update.detail else { panic!("no detail") };
            assert!(detail.reason.contains(words), "{detail:?}");
        }
        check_numbers(&stage, reason).await;

        stage.simulator.clear_poison();
        let answer = replayed(&stage, all()).await;
        assert_eq!((answer.replayed, answer.no_room, answer.not_there), (5, 0, 0));
        stage.delivers(&changes()).await;
        assert_eq!(listed(&stage, None, true).await, []);
        let update = stage.gateway.update(&receipts[0]).await;
        assert_eq!(update.state(), UpdateState::Delivered);
    }
}

fn nth_of(letter: &DeadLetter) -> usize {
    user_of(letter).trim_start_matches("user-").parse().unwrap()
}

/// The letter says what became of which values, and in upstream's words.
fn check_letter(letter: &DeadLetter, reason: DeadLetterReason, words: &str) {
    assert_eq!((letter.reason(), letter.state()), (reason, DeadLetterState::Open));
    assert!(letter.detail.contains(words), "{letter:?}");
    assert!(!letter.batch_id.is_empty() && !letter.request_id.is_empty(), "{letter:?}");
    assert_eq!(letter.job_id.is_empty(), reason == DeadLetterReason::BadRow, "{letter:?}");
    assert_eq!(letter.updates, 1);
    assert_eq!((letter.first_sequence, letter.last_sequence), {
        let sequence = nth_of(letter) as u64 + 1;
        (sequence, sequence)
    });
    let metadata = changes()[nth_of(letter)].update().metadata;
    assert_eq!(letter.metadata, metadata);
    assert_eq!(letter.company_id.is_some(), nth_of(letter).is_multiple_of(2));
}

/// What the status, the metrics and the log say of the five.
async fn check_numbers(stage: &Stage, reason: DeadLetterReason) {
    let app = stage.gateway.app().await;
    assert_eq!((app.dead_letters, app.totals.unwrap().dead_rows), (5, 5));
    let reason = reason.as_str_name().trim_start_matches("DEAD_LETTER_REASON_").to_lowercase();
    let (_, _, page) = stage.gateway.page("/metrics").await;
    for line in [
        "dead_letters{app=\"production\"} 5".to_owned(),
        format!("dead_rows_total{{app=\"production\",reason=\"{reason}\"}} 5"),
        "dead_letters_dropped_total 0".to_owned(),
    ] {
        assert!(page.contains(&format!("\nuserpilot_gateway_{line}\n")), "{line}: {page}");
    }
    let log = stage.gateway.log();
    let deaths: Vec<_> = log.iter().filter(|line| line.contains("it is a dead letter")).collect();
    assert_eq!(deaths.len(), 5);
    for line in deaths {
        assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{line}");
        assert!(!line.contains("user-") && !line.contains("invalid record"), "{line}");
    }
}

#[tokio::test]
async fn a_replay_does_not_overwrite_what_was_delivered_since() {
    let stage = stage().await;
    let ada = |metadata| Change::new("ada", metadata);
    let (old, new) = (ada(json!({"plan": "free", "seats": 3})), ada(json!({"plan": "pro"})));
    stage.simulator.poison(vec!["ada".into()], PoisonMode::RejectBatch);
    stage.sent(&[old.clone(), Change::new("bob", json!({"plan": "pro"}))]).await;
    settled(&stage.gateway).await;
    stage.simulator.clear_poison();
    stage.sent(std::slice::from_ref(&new)).await;
    settled(&stage.gateway).await;
    let letter = listed(&stage, Some(of_user("ada")), false).await.remove(0);
    assert_eq!(letter.metadata, ada(json!({"seats": 3})).update().metadata);
    let selection = Selection::Filter(of_user("ada"));
    let answer = replayed(&stage, DeadLetterSelection { selection: Some(selection) }).await;
    assert_eq!(answer.replayed, 1);
    stage.delivers([&old, &new, &Change::new("bob", json!({"plan": "pro"}))]).await;
}

#[tokio::test]
async fn what_is_discarded_is_closed_and_forgets_its_values() {
    let mut stage = stage().await;
    stage.simulator.poison(poisoned(), PoisonMode::RejectBatch);
    let receipts = stage.sent(&changes()).await;
    settled(&stage.gateway).await;
    let letter = listed(&stage, Some(of_user("user-123")), false).await.remove(0);
    let id = letter.id.clone();
    assert_eq!(discarded(&stage, these([id.clone()])).await, (1, 0));
    assert_eq!(discarded(&stage, these([id.clone()])).await, (0, 1));
    assert_eq!(replayed(&stage, these([id.clone()])).await.not_there, 1);

    stage.restart().await;
    assert_eq!(listed(&stage, Some(of_user("user-123")), false).await, []);
    assert_eq!(stage.gateway.app().await.dead_letters, 4);
    let request = GetDeadLetterRequest { app: String::new(), id };
    let closed = stage.gateway.admin().await.get_dead_letter(request).await.unwrap();
    let closed = closed.into_inner().dead_letter.unwrap();
    assert_eq!(closed.state(), DeadLetterState::Discarded);
    assert!(closed.closed_at.is_some() && closed.metadata.unwrap().fields.is_empty());
    let update = stage.gateway.update(&receipts[123]).await;
    let Some(Detail::Dead(detail)) = update.detail else { panic!("{update:?}") };
    assert!(detail.reason.contains("discarded"), "{detail:?}");

    // What dies again while all are replayed is not replayed again.
    assert_eq!(replayed(&stage, all()).await.replayed, 4);
    settled(&stage.gateway).await;
    assert_eq!(listed(&stage, None, false).await.len(), 4);
    assert_eq!(discarded(&stage, all()).await, (4, 0));
    assert_eq!(listed(&stage, None, true).await.len(), 5);
    let expected = changes();
    let expected = applied(expected.iter().filter(|change| is_innocent(change)));
    same_profiles(&stage.simulator.profiles(), &expected);
}

#[tokio::test]
async fn an_export_streams_what_a_list_shows() {
    let stage = stage().await;
    stage.simulator.poison((0..50).map(|nth| user(nth * 7)).collect(), PoisonMode::RejectBatch);
    stage.sent(&changes()).await;
    settled(&stage.gateway).await;
    let request = ExportDeadLettersRequest::default();
    let mut stream =
        stage.gateway.admin().await.export_dead_letters(request).await.unwrap().into_inner();
    let mut exported = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        exported.push(answer.dead_letter.unwrap());
    }
    assert_eq!(exported.len(), 50);
    assert_eq!(exported, listed(&stage, None, false).await);
    let filter = DeadLetterFilter {
        reason: DeadLetterReason::JobFailed.into(),
        ..DeadLetterFilter::default()
    };
    assert_eq!(listed(&stage, Some(filter), false).await, []);
}

#[tokio::test]
async fn a_replay_without_room_says_so_and_loses_nothing() {
    let little = |site: crate::rig::Site| site.with("store.pending_records_max", 3);
    let stage = Stage::of(at_speed(100), little).await;
    stage.simulator.poison(vec!["ada".into()], PoisonMode::RejectBatch);
    let ada = Change::new("ada", json!({"plan": "pro"}));
    let others: Vec<_> =
        ["bob", "cyn", "dan"].map(|id| Change::new(id, json!({"plan": "free"}))).into();
    stage.sent(&[others[0].clone(), ada.clone()]).await;
    settled(&stage.gateway).await;
    let pause = userpilot_gateway::proto::PauseRequest::default();
    stage.gateway.admin().await.pause(pause).await.unwrap();
    stage.sent(&others).await;
    assert_eq!(replayed(&stage, all()).await.no_room, 1);
    assert_eq!(stage.gateway.app().await.dead_letters, 1);
    stage.simulator.clear_poison();
    let resume = userpilot_gateway::proto::ResumeRequest::default();
    stage.gateway.admin().await.resume(resume).await.unwrap();
    settled(&stage.gateway).await;
    assert_eq!(replayed(&stage, all()).await.replayed, 1);
    stage.delivers(others.iter().chain([&ada])).await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_words() {
    let stage = Stage::start(100).await;
    let mut admin = stage.gateway.admin().await;
    let empty = Selection::Filter(DeadLetterFilter::default());
    let nobody = DeadLetterFilter { subject: Some(Subject { id: None }), ..Default::default() };
    for (selection, words) in [
        (None, "selection: is missing"),
        (Some(Selection::Ids(DeadLetterIds { ids: vec![] })), "expected 1 to 1000"),
        (Some(Selection::Ids(DeadLetterIds { ids: vec!["7".into()] })), "selection.ids[0]"),
        (Some(empty), "`all` selects all"),
        (Some(Selection::Filter(nobody)), "filter.subject: names nobody"),
    ] {
        let selection = Some(DeadLetterSelection { selection });
        let request = ReplayDeadLettersRequest { app: String::new(), selection };
        let refusal = admin.replay_dead_letters(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains(words), "{words}: {refusal:?}");
    }
    for id in ["none", "1-1"] {
        let request = GetDeadLetterRequest { app: String::new(), id: id.into() };
        assert_eq!(admin.get_dead_letter(request).await.unwrap_err().code(), Code::NotFound);
    }
    let request = ListDeadLettersRequest { page_token: "next".into(), ..Default::default() };
    let refusal = admin.list_dead_letters(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
}
