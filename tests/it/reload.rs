//! Configuration and certificates that change while the gateway runs.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use serde_json::json;
use tonic::transport::Channel;
use userpilot_gateway::proto::{UpdateUserRequest, ingest_service_client::IngestServiceClient};

use crate::rig::{Authority, Change, Site, Stage, at_speed, run, secured, until};

async fn reloads(stage: &Stage, outcome: &str) -> u64 {
    let (_, _, page) = stage.gateway.page("/metrics").await;
    let name = format!("userpilot_gateway_config_reloads_total{{outcome=\"{outcome}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

async fn update(channel: Channel, user: String) {
    let update = Some(Change::new(user, json!({"plan": "pro"})).update());
    let request = UpdateUserRequest { update };
    IngestServiceClient::new(channel).update_user(request).await.unwrap();
}

/// Sends one update after the other, every tenth by a connection of its own, until told to stop.
async fn traffic(address: &str, authorities: &[&Authority], stop: &AtomicBool) -> usize {
    let mut channel = secured(address, authorities, None).await.unwrap();
    let kept = channel.clone();
    let mut sent = 0;
    while !stop.load(Relaxed) {
        if sent % 10 == 0 {
            channel = secured(address, authorities, None).await.unwrap();
        }
        update(channel.clone(), format!("user-{sent}")).await;
        update(kept.clone(), format!("user-{sent}")).await;
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let secure = |site: Site| site.secured_by(&old).with_plain_admin();
    let stage = Stage::of(at_speed(100), secure).await;
    let address = &*stage.gateway.addresses.grpc;
    assert!(secured(address, &[&new], None).await.is_err());
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rotation = async {
        stage.site.show(&new.gateway());
        // Whoever trusts the new one alone gets through: it is shown.
        until("the new certificate", async || secured(address, &[&new], None).await.ok()).await;
        // Back again, by a signal.
        stage.site.show(&old.gateway());
        stage.gateway.hang_up();
        until("the old certificate", async || {
            secured(address, &[&new], None).await.is_err().then_some(())
        })
        .await;
        stop.store(true, Relaxed);
    };
    let both = [&old, &new];
    let load = async {
        let senders = (0..4).map(|_| traffic(address, &both, &stop));
        sent.store(futures_util::future::join_all(senders).await.iter().sum(), Relaxed);
    };
    tokio::join!(rotation, load);
    assert!(sent.into_inner() > 20);
    assert_eq!(stage.gateway.app().await.totals.unwrap().refused_updates, 0);
    assert!(reloads(&stage, "applied").await >= 2);
}

#[tokio::test]
async fn a_broken_configuration_is_refused_and_the_old_one_stays() {
    let authority = Authority::new("the gateway's");
    let secure = |site: Site| site.secured_by(&authority).with_plain_admin();
    let stage = Stage::of(at_speed(100), secure).await;
    let Stage { site, gateway, .. } = &stage;
    let config = site.path("gateway.toml");
    let right = fs::read_to_string(&config).unwrap();
    let works = async || {
        let channel = secured(&gateway.addresses.grpc, &[&authority], None).await.unwrap();
        update(channel, "ada".to_owned()).await;
    };

    fs::write(&config, right.clone() + "\n[stroe]\n").unwrap();
    gateway.hang_up();
    let said = gateway.says("the new configuration is refused: the old one stays").await;
    assert!(said.contains("stroe: unknown table; did you mean store?"), "{said}");
    works().await;
    let problem = until("a status with the problem", async || {
        Some(gateway.status().await.config_problem).filter(|problem| !problem.is_empty())
    })
    .await;
    assert!(problem.contains("stroe"), "{problem}");
    let admin = format!("http://{}", gateway.addresses.admin);
    let shown = run(&["status", "--address", &admin], "").await;
    assert!(shown.stdout.contains("the new configuration is refused"), "{shown:?}");
    assert_eq!((reloads(&stage, "applied").await, reloads(&stage, "refused").await), (0, 1));

    // Nobody has to say anything: the file is watched. Every refusal is told once.
    fs::write(&config, &right).unwrap();
    until("a status without a problem", async || {
        gateway.status().await.config_problem.is_empty().then_some(())
    })
    .await;

    // A key that is not the certificate's.
    let other = authority.gateway();
    fs::write(site.path("tls.key"), &other.key).unwrap();
    gateway.says("is not the key of the certificate in").await;
    works().await;
    fs::write(site.path("tls.crt"), &other.cert).unwrap();
    gateway.says("changed\":\"the certificates\"").await;
    works().await;

    // The file is away for a while.
    fs::remove_file(&config).unwrap();
    gateway.says("cannot read the configuration file").await;
    works().await;
    assert_eq!(reloads(&stage, "refused").await, 3);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_takes_effect() {
    let mut stage = Stage::start(100).await;
    let gateway = &stage.gateway;
    // Another key, in another place.
    stage.simulator.change_api_key("second-key".to_owned());
    fs::write(stage.site.path("second.key"), "second-key").unwrap();
    let config = stage.site.path("gateway.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("\"userpilot.key\"", "\"second.key\"");
    fs::write(&config, text.replace("linger_ms = 20", "linger_ms = 21")).unwrap();
    let said = gateway.says("need a restart").await;
    assert!(said.contains("\"apps[0].linger_ms\""), "{said}");
    gateway.says("\"changed\":\"apps[0].api_key_file\"").await;
    gateway.says("there is another API key").await;
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    stage.delivers([&change]).await;

    // A signal is always answered; a stop comes through as before.
    gateway.hang_up();
    until("an answer to the signal", async || {
        (reloads(&stage, "applied").await == 2).then_some(())
    })
    .await;
    stage.gateway.terminate();
    assert!(stage.gateway.end().await.status.success());
}

#[tokio::test]
async fn other_rules_for_properties_hold_from_the_next_update_on() {
    let stage = Stage::of(at_speed(100), |site| {
        fs::write(site.path("hash.key"), "the first key to hash under").unwrap();
        let rules = "hash = [\"email\"]\nhash_key_file = \"hash.key\"\n".parse::<toml::Table>();
        site.with("app.properties", rules.unwrap())
    })
    .await;
    let Stage { site, gateway, simulator, .. } = &stage;
    let send = async |values: serde_json::Value| {
        let update = Some(Change::new("ada", values).update());
        gateway.ingest().await.update_user(UpdateUserRequest { update }).await
    };
    // What Userpilot comes to know of an address, once it is another than before.
    let hashed = async |before: &str| {
        send(json!({"email": "ada@example.com"})).await.unwrap();
        until("the hash", async || {
            let profiles = simulator.profiles();
            let profile = format!("{:?}", profiles.values().next()?);
            (profile.contains("email") && profile != before).then_some(profile)
        })
        .await
    };
    let first = hashed("").await;
    assert!(!first.contains("ada@"), "{first}");

    // Another key, in the same place.
    fs::write(site.path("hash.key"), "the second key to hash under").unwrap();
    gateway.says("\"changed\":\"the hash key of app production\"").await;
    let second = hashed(&first).await;
    assert!(!second.contains("ada@"), "{second}");
    // One that is too short is refused: the last one stays.
    fs::write(site.path("hash.key"), "short").unwrap();
    gateway.says("is under 16 bytes").await;
    send(json!({"plan": "pro"})).await.unwrap();

    // Other rules; what needs a restart, an app's list and all, is on record, too.
    fs::write(site.path("hash.key"), "the second key to hash under").unwrap();
    let config = site.config();
    let text = fs::read_to_string(&config).unwrap();
    let denied = text.replace("hash = [", "deny = [\"ssn\"]\nhash = [");
    fs::write(&config, denied.replace("linger_ms = 20", "linger_ms = 21")).unwrap();
    let said =
        gateway.says("\"event\":\"config_reloaded\",\"changed\":\"apps[0].properties.deny\"").await;
    assert!(said.contains("\"needs_restart\":\"apps[0].linger_ms\""), "{said}");
    let refused = send(json!({"SSN": "078-05-1120"})).await.unwrap_err();
    assert!(refused.message().contains("is denied for this app"), "{refused:?}");

    // With another list of apps nothing of it is taken, and that is said.
    let more = "[[apps]]\nname = \"staging\"\napi_key_file = \"userpilot.key\"\n";
    fs::write(&config, format!("{text}\n{more}")).unwrap();
    let said = gateway.says("these have changed and need a restart; the old values stay").await;
    assert!(said.contains("apps[0].linger_ms"), "{said}");
    gateway.says("apps[1].name").await;
    assert!(send(json!({"SSN": "078-05-1120"})).await.is_err(), "the old rules stay");
}

/// Whoever says SIGHUP too early does not end the process.
#[tokio::test]
async fn signals_from_the_first_moment_on_end_nothing() {
    let site = Site::new("http://127.0.0.1:9", 1.0);
    let mut early = site.launch();
    until("its first words", async || early.log().first().cloned()).await;
    early.hang_up();
    early.says("is in force").await;
    assert!(early.ended().is_none());
    early.terminate();
    assert!(early.end().await.status.success());
}
