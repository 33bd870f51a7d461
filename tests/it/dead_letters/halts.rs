//! Where upstream refuses everything, an app halts rather than making dead letters of it all.

use serde_json::json;
use userpilot_gateway::{
    proto::AppState,
    simulator::{Fault, FaultPoint, FaultRule},
};

use super::{all, changes, listed, replayed};
use crate::rig::{Change, Stage, at_speed, run, settled, until};

fn everything_is_refused(code: u16) -> FaultRule {
    let body = "the account is closed".to_owned();
    FaultRule::always(FaultPoint::Submit, Fault::Status { code, body, retry_after: None })
}

async fn halted(stage: &Stage) {
    until("a halt", async || (stage.gateway.app().await.state() == AppState::Halted).then_some(()))
        .await;
}

fn lines(stage: &Stage, what: &str) -> usize {
    stage.gateway.log().iter().filter(|line| line.contains(what)).count()
}

#[tokio::test]
async fn where_all_is_refused_at_most_ten_die_until_it_is_taken_again() {
    let settings = |site: crate::rig::Site| site.with("app.held_retry_ms", 50);
    let stage = Stage::of(at_speed(100), settings).await;
    stage.simulator.arm_faults(vec![everything_is_refused(400)]).unwrap();
    stage.sent(&changes()).await;
    halted(&stage).await;
    // Many retries later it is as before, and new updates are taken.
    let later = Change::new("later", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&later)).await;
    let submissions = stage.simulator.faults()[0].struck;
    until("more tries", async || {
        (stage.simulator.faults()[0].struck > submissions + 5).then_some(())
    })
    .await;
    let app = stage.gateway.app().await;
    assert!((1..=10).contains(&app.dead_letters), "{app:?}");
    assert!(app.last_error.contains("the account is closed"), "{app:?}");
    assert_eq!(lines(&stage, "it is halted"), 1);

    stage.simulator.clear_faults();
    settled(&stage.gateway).await;
    let letters = listed(&stage, None, false).await;
    assert!((1..=10).contains(&letters.len()), "{} died", letters.len());
    assert_eq!(lines(&stage, "the halt is over"), 1);
    assert_eq!(replayed(&stage, all()).await.replayed, letters.len() as u64);
    stage.delivers(changes().iter().chain([&later])).await;
}

#[tokio::test]
async fn a_wrong_address_halts_without_a_dead_letter_and_the_status_says_so() {
    let settings = |site: crate::rig::Site| {
        site.with("app.backoff_initial_ms", 3_600_000).with("app.backoff_max_ms", 3_600_000)
    };
    let stage = Stage::of(at_speed(100), settings).await;
    stage.simulator.arm_faults(vec![everything_is_refused(418)]).unwrap();
    stage.sent(&changes()).await;
    halted(&stage).await;
    let app = stage.gateway.app().await;
    assert_eq!((app.dead_letters, app.totals.unwrap().dead_rows), (0, 0));
    let address = format!("http://{}", stage.gateway.addresses.admin);
    let status = run(&["status", "--address", &address], "").await;
    for part in ["Userpilot refuses everything (418: the account is closed)", "halted"] {
        assert!(status.stdout.contains(part), "{part}: {status:?}");
    }
    let (_, _, page) = stage.gateway.page("/metrics").await;
    for (state, value) in [("halted", 1), ("idle", 0)] {
        let line = format!("app_state{{app=\"production\",state=\"{state}\"}} {value}\n");
        assert!(page.contains(&line), "{line}: {page}");
    }
    stage.simulator.clear_faults();
    // It may cost dead letters: whoever cannot be asked has to say that it is meant.
    let refused = run(&["flush", "--address", &address], "").await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("production. A flush says"), "{refused:?}");
    assert!(refused.stderr.contains("add --yes"), "{refused:?}");
    assert_eq!(stage.gateway.app().await.state(), AppState::Halted);
    let flushed = run(&["flush", "--yes", "--address", &address], "").await;
    assert!(flushed.status.success(), "{flushed:?}");
    stage.delivers(&changes()).await;
    assert_eq!(lines(&stage, "the halt is over"), 1);
}
