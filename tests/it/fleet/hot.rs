//! One subject, of which several replicas are told at the same time.

use futures_util::future::join_all;

use super::*;
use crate::rig::{Way, accepted, send};

async fn is_now(fleet: &Fleet, user: &str, value: u64) {
    fleet.settles().await;
    let profiles = fleet.simulator.profiles();
    let found = profiles[user].metadata["value"].as_f64();
    assert_eq!(found, Some(value as f64), "{user}");
    fleet.is_blameless();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_subject_that_two_replicas_are_told_of_the_last_acknowledged_value_stays() {
    let fleet = Fleet::start(2, 200, Duration::from_secs(10)).await;
    let mut ways = [fleet.ingest(0).await, fleet.ingest(1).await];
    // By turns, each once the one before is acknowledged.
    let mut last = 0;
    for value in 1..=50 {
        let way = &mut ways[usize::try_from(value % 2).unwrap()];
        let [update] = &accepted(send(Way::Unary, way, &[change("hot", value)]).await)[..] else {
            panic!("one update, one answer");
        };
        assert!(update.sequence > last, "{} after {last}", update.sequence);
        last = update.sequence;
    }
    is_now(&fleet, "hot", 50).await;

    // Both at once: whichever was accepted last, by its sequence, is the last.
    let sending = ways.into_iter().zip([1_000, 2_000]).map(async |(mut way, from)| {
        let mut accepted_as = Vec::new();
        for value in from..from + 60 {
            let answers = send(Way::Unary, &mut way, &[change("hot", value)]).await;
            accepted_as.push((accepted(answers)[0].sequence, value));
        }
        accepted_as
    });
    let all: Vec<(u64, u64)> = join_all(sending).await.into_iter().flatten().collect();
    let sequences: BTreeSet<u64> = all.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences.len(), 120, "a sequence was given twice");
    let (_, value) = all.into_iter().max().unwrap();
    is_now(&fleet, "hot", value).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_at_one_replica_holds_at_the_other_and_a_flush_reaches_it() {
    use userpilot_gateway::proto::{FlushNowRequest, PauseRequest, ResumeRequest};
    let fleet = Fleet::start(2, 200, Duration::from_secs(10)).await;
    let (holder, _) = fleet.holder().await;
    let other = &fleet.replicas[1 - holder];
    let mut admin = other.admin().await;
    admin.pause(PauseRequest::default()).await.unwrap();
    let holder = &fleet.replicas[holder];
    until("the pause", async || holder.app().await.paused.then_some(())).await;
    accepted(send(Way::Batch, &mut other.ingest().await, &[change("u", 1)]).await);
    until("what waits", async || (holder.app().await.pending_records == 1).then_some(())).await;
    assert_eq!(fleet.simulator.snapshot().jobs.len(), 0);
    admin.flush_now(FlushNowRequest::default()).await.unwrap();
    admin.resume(ResumeRequest::default()).await.unwrap();
    is_now(&fleet, "u", 1).await;
    until("the flush", async || {
        let log = holder.log();
        log.iter()
            .any(|line| line.contains("an operator intervenes") && line.contains("Flush"))
            .then_some(())
    })
    .await;
}
