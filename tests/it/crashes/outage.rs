//! Userpilot takes a job, its answer is lost, and then it is down for a while.

use std::fs;

use serde_json::json;
use userpilot_gateway::simulator::{Fault, FaultPoint, FaultRule, JobStatus};

use super::{Change, Gateway, Site, applied, same_profiles, send, settled, within};
use crate::rig::{UpstreamSite, Way, accepted, until};

/// More looks than a list is given up after, and longer than a job's occupancy.
const LOOKS: usize = 12;

#[tokio::test]
async fn a_job_whose_answer_was_lost_before_an_outage_is_found_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let lost = [FaultRule::always(FaultPoint::Submit, Fault::Hang { carried_out: true })];
    let mut place = UpstreamSite::new(folder.path().to_owned(), 50, &lost);
    let mut upstream = place.start(1).await;
    let site = Site::new(upstream.url(), 50.0);
    let gateway = within("a start", site.serve()).await;
    let changes: Vec<_> =
        (0..30).map(|user| Change::new(format!("u{user}"), json!({"plan": "pro"}))).collect();
    accepted(send(Way::Batch, &mut gateway.ingest().await, &changes).await);
    until("a job", async || (upstream.snapshot().await.submissions > 0).then_some(())).await;
    upstream.kill();
    until("looks that nobody answers", async || (looks(&gateway) >= LOOKS).then_some(())).await;

    fs::write(folder.path().join("faults.json"), "[]").unwrap();
    let upstream = place.start(1).await;
    settled(&gateway).await;
    let seen = upstream.snapshot().await;
    assert_eq!(seen.submissions, 1, "{:?}", seen.jobs);
    assert!(seen.jobs.iter().all(|job| job.status == JobStatus::Completed), "{:?}", seen.jobs);
    let [job] = &gateway.jobs(10).await[..] else { panic!("one batch") };
    assert_eq!((&*job.job_id, job.rows), (&*seen.jobs[0].id, 30));
    same_profiles(&upstream.profiles().await, &applied(&changes));
}

fn looks(gateway: &Gateway) -> usize {
    let asks = |line: &&String| line.contains("\"asked\":\"list jobs\"");
    gateway.log().iter().filter(asks).count()
}
