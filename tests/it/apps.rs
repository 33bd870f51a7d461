//! Several apps side by side: each has its own key, queue, budget, job slot and pause.

use std::time::Duration;

use serde_json::json;
use tonic::{Code, transport::Channel};
use userpilot_gateway::{
    clock,
    proto::{
        AppState, AppStatus, GetUpdateRequest, PauseRequest, ResumeRequest, UpdateUserRequest,
        UpdateUsersRequest, ingest_service_client::IngestServiceClient, update_users_result,
    },
    simulator::{
        Fault, FaultPoint, FaultRule, Profile, Rule, RunningSimulator, Simulator, SimulatorConfig,
    },
};

use crate::{
    rig::{Change, Gateway, Site, at_speed, http, run, until},
    store::damage_first,
};

const SPEED: f64 = 100.0;
const STAGING_KEY: &str = "another-key";

/// A gateway with two apps, each with a Userpilot and a key of its own.
struct Sides {
    production: RunningSimulator,
    staging: RunningSimulator,
    gateway: Gateway,
    site: Site,
}

impl Sides {
    async fn start() -> Self {
        let production = Simulator::start(at_speed(100)).await.unwrap();
        let config = SimulatorConfig { api_key: STAGING_KEY.to_owned(), ..at_speed(100) };
        let staging = Simulator::start(config).await.unwrap();
        let site = Site::new(&production.url(), SPEED)
            .with("app.request_timeout_ms", 2_000)
            .with("app.connect_timeout_ms", 2_000)
            .with("app.held_retry_ms", 200)
            .and_app("staging", &staging.url())
            .with_key_of(1, STAGING_KEY);
        let gateway = site.serve().await;
        Self { production, staging, gateway, site }
    }

    async fn app(&self, name: &str) -> AppStatus {
        let apps = self.gateway.status().await.apps;
        apps.into_iter().find(|app| app.app == name).unwrap()
    }

    async fn is_in(&self, name: &str, state: AppState) {
        until(state.as_str_name(), async || (self.app(name).await.state() == state).then_some(()))
            .await;
    }

    /// Commands for all apps do what they can, and say of which apps they did nothing.
    async fn commands_name_held_apps(&self) {
        let address = format!("http://{}", self.gateway.addresses.admin);
        for command in
            [&["user", "forget", "ada", "--yes"][..], &["pause"], &["resume"], &["flush"]]
        {
            let of_all = run(&[command, &["--address", &address]].concat(), "").await;
            assert_eq!(of_all.status.code(), Some(3), "{of_all:?}");
            assert!(of_all.stdout.contains("production") || command.len() == 1, "{of_all:?}");
            assert!(of_all.stderr.contains("staging, third"), "{of_all:?}");
            let json = [command, &["--address", &address, "--output", "json"]].concat();
            let json = run(&json, "").await;
            let answer: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
            assert_eq!(answer["held_apps"], json!(["staging", "third"]), "{answer}");
            let of_one =
                run(&[command, &["--app", "production", "--address", &address]].concat(), "").await;
            assert!(of_one.status.success(), "{of_one:?}");
        }
    }

    /// Commands for one app say which there are.
    async fn commands_ask_which_app(&self) {
        let address = format!("http://{}", self.gateway.addresses.admin);
        for command in [
            &["jobs"][..],
            &["jobs", "show", "1"],
            &["user", "show", "ada"],
            &["dead-letters", "list"],
            &["dead-letters", "show", "1-1"],
            &["export"],
        ] {
            let which = "app (--app) is required, since there are several: production, staging";
            for (app, says) in [("", which), ("prod", "there are production, staging")] {
                let asked = [command, &["--app", app, "--address", &address]].concat();
                let asked = run(&asked, "").await;
                assert_eq!(asked.status.code(), Some(1), "{asked:?}");
                assert!(asked.stderr.contains(says), "{command:?}: {asked:?}");
            }
        }
    }

    /// What is asked of "staging" and "third", which are held, is refused by the app's name: over
    /// HTTP, in a group, and with a receipt of one of them.
    async fn refuses_held_apps_by_name(&self, receipt: &str) {
        let mut client = self.gateway.ingest().await;
        for app in ["staging", "third"] {
            let base = format!("http://{}/apps/{app}/v1", self.gateway.addresses.http);
            let user = json!({ "user_id": "ada" });
            let company = json!({ "company_id": "acme" });
            for (path, body) in [
                ("identify", Some(user.clone())),
                ("companies/identify", Some(company.clone())),
                ("users/bulk_identify", Some(json!({ "users": [user] }))),
                ("companies/bulk_identify", Some(json!({ "companies": [company] }))),
                ("background_jobs", None),
                ("background_jobs/5", None),
            ] {
                let url = format!("{base}/{path}");
                let request = match &body {
                    Some(body) => http().post(url).json(body),
                    None => http().get(url),
                };
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 503, "{path}");
                let error: serde_json::Value = answer.json().await.unwrap();
                let message = error["errors"][0]["message"].as_str().unwrap();
                assert!(message.starts_with(&format!("app {app:?} is held")), "{path}: {message}");
            }
            let mut update = Change::new("ada", json!({})).update();
            update.app = app.to_owned();
            let request = UpdateUsersRequest { updates: vec![update] };
            let results = client.update_users(request).await.unwrap().into_inner().results;
            let Some(update_users_result::Result::Error(error)) = &results[0].result else {
                panic!("{results:?}")
            };
            assert!(error.message.contains(app), "{error:?}");
        }
        let request = GetUpdateRequest { receipt: receipt.to_owned() };
        let refusal = client.get_update(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().contains("third"), "{refusal}");
    }

    /// How long it takes until production's profile holds a new value: the median of some.
    async fn freshness(&self, client: &mut Client, round: &str) -> Duration {
        let mut times = Vec::new();
        for nth in 0..15 {
            let user = format!("{round}-{nth}");
            let sent = clock::now().instant;
            send(client, "production", &user, json!({ "nth": nth })).await.unwrap();
            profile(&self.production, &user).await;
            times.push(clock::now().instant.since(sent));
        }
        times.sort_unstable();
        times[times.len() / 2]
    }
}

type Client = IngestServiceClient<Channel>;

async fn send(
    client: &mut Client,
    app: &str,
    user: &str,
    metadata: serde_json::Value,
) -> Result<String, tonic::Status> {
    let mut update = Change::new(user, metadata).update();
    app.clone_into(&mut update.app);
    let accepted = client.update_user(UpdateUserRequest { update: Some(update) }).await;
    Ok(accepted?.into_inner().receipt)
}

async fn profile(upstream: &RunningSimulator, user: &str) -> Profile {
    until("a profile", async || upstream.profile(user)).await
}

#[tokio::test]
async fn every_app_has_its_own_key_and_profiles() {
    let sides = Sides::start().await;
    let mut client = sides.gateway.ingest().await;
    for app in ["production", "staging"] {
        send(&mut client, app, "ada", json!({ "app": app })).await.unwrap();
    }
    // Each Userpilot refuses the other's key, so a delivery means that it got its own.
    for (upstream, app) in [(&sides.production, "production"), (&sides.staging, "staging")] {
        assert_eq!(profile(upstream, "ada").await.metadata["app"], app);
    }
    let refusal = send(&mut client, "", "ada", json!({})).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    let names: Vec<_> = sides.gateway.status().await.apps.into_iter().map(|it| it.app).collect();
    assert_eq!(names, ["production", "staging"]);
    sides.commands_ask_which_app().await;
}

#[tokio::test]
async fn an_outage_of_one_app_does_not_touch_the_other() {
    let sides = Sides::start().await;
    let mut client = sides.gateway.ingest().await;
    let before = sides.freshness(&mut client, "before").await;

    // Staging answers nothing at all while thousands of its updates wait.
    let hang = FaultRule::always(FaultPoint::Any, Fault::Hang { carried_out: false });
    sides.staging.arm_faults(vec![hang]).unwrap();
    for nth in 0..2_000 {
        send(&mut client, "staging", &format!("user-{nth}"), json!({ "nth": nth })).await.unwrap();
    }
    sides.is_in("staging", AppState::LookingForJob).await;
    let during = sides.freshness(&mut client, "during").await;
    println!("freshness of production: p50 {before:?} before, {during:?} during the outage");
    // The machine may be busier than before by other tests, but nothing waits for staging: that
    // would last until the end of the outage.
    assert!(during < before * 5 + Duration::from_millis(500), "{before:?} became {during:?}");
    assert_eq!(sides.app("production").await.totals.unwrap().failed_attempts, 0);

    // Its key is refused, next: its own state says so, and the other's does not.
    sides.staging.change_api_key("rotated".to_owned());
    sides.staging.clear_faults();
    sides.is_in("staging", AppState::KeyRejected).await;
    send(&mut client, "production", "late", json!({})).await.unwrap();
    profile(&sides.production, "late").await;

    sides.staging.change_api_key(STAGING_KEY.to_owned());
    until("all of staging", async || (sides.staging.profiles().len() == 2_000).then_some(())).await;
    assert_eq!(sides.production.snapshot().violations, []);
    // But for the key that was refused on purpose, no rule was broken.
    let violations = sides.staging.snapshot().violations;
    assert!(violations.iter().all(|it| it.kind == Rule::BadAuth), "{violations:?}");
}

#[tokio::test]
async fn a_pause_stops_one_app_alone() {
    let sides = Sides::start().await;
    let mut client = sides.gateway.ingest().await;
    let mut admin = sides.gateway.admin().await;
    let app = "staging".to_owned();
    admin.pause(PauseRequest { app: app.clone() }).await.unwrap();
    for app in ["staging", "production"] {
        send(&mut client, app, "ada", json!({ "app": app })).await.unwrap();
    }
    profile(&sides.production, "ada").await;
    sides.is_in("staging", AppState::Paused).await;
    assert_eq!(sides.staging.snapshot().submissions, 0);
    admin.resume(ResumeRequest { app }).await.unwrap();
    profile(&sides.staging, "ada").await;
}

#[tokio::test]
async fn an_app_whose_state_is_damaged_is_paused_until_it_is_resumed_and_the_other_goes_on() {
    let mut sides = Sides::start().await;
    let mut client = sides.gateway.ingest().await;
    // A batch of staging is taken, and its answer never comes; newer values wait behind it.
    let hang = FaultRule::always(FaultPoint::Submit, Fault::Hang { carried_out: true });
    sides.staging.arm_faults(vec![hang]).unwrap();
    for nth in 0..20 {
        let user = format!("user-{nth}");
        send(&mut client, "staging", &user, json!({ "first": nth, "both": 1 })).await.unwrap();
    }
    until("a submission", async || (sides.staging.snapshot().submissions > 0).then_some(())).await;
    for nth in 10..30 {
        let user = format!("user-{nth}");
        send(&mut client, "staging", &user, json!({ "both": 2, "last": nth })).await.unwrap();
    }
    sides.gateway.kill();
    drop(client);

    let data = sides.site.path("data");
    // Of the second app: its state, and its newest batch.
    for entry in [b"a\0\x01", b"b\0\x01"] {
        damage_first(&data, entry);
    }
    sides.staging.clear_faults();
    sides.gateway = sides.site.serve().await;
    let log = sides.gateway.log().join("\n");
    assert!(log.contains("was damaged and is made anew") && log.contains("staging"), "{log}");
    let mut client = sides.gateway.ingest().await;
    send(&mut client, "production", "ada", json!({ "app": "production" })).await.unwrap();
    profile(&sides.production, "ada").await;
    sides.is_in("staging", AppState::Paused).await;
    let staging = sides.app("staging").await;
    assert_eq!((staging.pending_records, staging.paused), (30, true));
    let status = sides.gateway.status().await;
    assert!(status.ready && status.store.unwrap().quarantined_records == 2);
    let admin = format!("http://{}", sides.gateway.addresses.admin);
    let told = run(&["status", "--address", &admin], "").await;
    assert!(told.stdout.contains("its state in the store was damaged"), "{told:?}");
    // Updates are accepted meanwhile.
    send(&mut client, "staging", "late", json!({ "last": 30 })).await.unwrap();

    let app = "staging".to_owned();
    sides.gateway.admin().await.resume(ResumeRequest { app }).await.unwrap();
    until("all of staging", async || sides.staging.profile("late")).await;
    until("an end", async || (sides.app("staging").await.state() == AppState::Idle).then_some(()))
        .await;
    for nth in 0..30 {
        let metadata = profile(&sides.staging, &format!("user-{nth}")).await.metadata;
        let both = if nth < 10 { 1 } else { 2 };
        assert_eq!(metadata["both"], both, "user {nth}");
        assert_eq!(metadata.get("first"), (nth < 20).then(|| json!(nth)).as_ref());
        assert_eq!(metadata.get("last"), (nth >= 10).then(|| json!(nth)).as_ref());
    }
    assert_eq!(sides.staging.snapshot().violations, []);
}

#[tokio::test]
async fn apps_whose_numbers_are_lost_are_held_and_the_others_go_on() {
    let mut sides = Sides::start().await;
    sides.gateway.kill();
    sides.site = sides.site.and_app("third", &sides.staging.url());
    sides.gateway = sides.site.serve().await;
    let mut client = sides.gateway.ingest().await;
    let receipt = send(&mut client, "third", "ada", json!({})).await.unwrap();
    drop(client);
    sides.gateway.kill();
    let data = sides.site.path("data");
    for name in [b"nastaging".as_slice(), b"nathird"] {
        damage_first(&data, name);
    }
    sides.gateway = sides.site.serve().await;
    let mut client = sides.gateway.ingest().await;
    send(&mut client, "production", "ada", json!({})).await.unwrap();
    profile(&sides.production, "ada").await;
    sides.refuses_held_apps_by_name(&receipt).await;
    let mut admin = sides.gateway.admin().await;
    for app in ["staging", "third"] {
        sides.is_in(app, AppState::Halted).await;
        let summary = sides.app(app).await.summary;
        assert!(summary.contains("Held") && summary.contains("store check"), "{summary}");
        let refusal = send(&mut client, app, "ada", json!({})).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().starts_with(&format!("app {app:?} is held")), "{refusal}");
        assert!(refusal.message().contains("store check"), "{refusal}");
        let refusal = admin.pause(PauseRequest { app: app.into() }).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().contains(app), "{refusal}");
    }
    let request = PauseRequest { app: String::new() };
    let paused = admin.pause(request).await.unwrap().into_inner();
    assert_eq!(paused.held_apps, ["staging", "third"]);
    sides.is_in("production", AppState::Paused).await;
    sides.commands_name_held_apps().await;
}
