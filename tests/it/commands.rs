//! The commands, as their users run them.

use std::{fs, process::Command};

use serde_json::json;

use crate::rig::{Change, Gateway, Process, Site, Stage, at_speed, get, run, settled, until};

fn address(address: &str) -> String {
    format!("http://{address}")
}

/// The addresses of a stage, as the commands take them.
fn addresses(stage: &Stage) -> (String, String) {
    let addresses = &stage.gateway.addresses;
    (address(&addresses.grpc), address(&addresses.admin))
}

#[tokio::test]
async fn send_sends_one_update_of_flags() {
    let stage = Stage::start(100).await;
    let (grpc, _) = addresses(&stage);
    let arguments = [
        "send",
        "--address",
        &grpc,
        "--user-id",
        "ada",
        "--company-id",
        "acme",
        "--set",
        "plan=pro",
        "--set",
        "seats=3",
        "--set",
        "trial=false",
        "--set",
        "ended=null",
        "--set",
        "zip=\"0815\"",
        "--lane",
        "bulk",
    ];
    let output = run(&arguments, "").await;
    assert!(output.status.success(), "{output:?}");
    let (first, receipt) = output.stdout.trim_end().split_once("\nreceipt ").unwrap();
    assert_eq!(first, "queued as number 1");
    assert_eq!(stage.gateway.update(receipt).await.sequence, 1);
    let expected = json!({"plan": "pro", "seats": 3, "trial": false, "ended": null, "zip": "0815"});
    stage.delivers([&Change::new("ada", expected).of_company("acme")]).await;

    let refused =
        run(&["send", "--address", &grpc, "--user-id", "", "--set", "plan=pro"], "").await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("update.user_id: is empty"), "{refused:?}");
}

const LINES: &str = r#"{"user_id":"ada","metadata":{"plan":"free","seats":3}}

{"user_id":"bob","company_id":"acme","lane":"bulk","occurred_at":"2026-01-01T00:00:00Z"}
{"user_id":"ada","metadata":{"plan":"pro"}}
"#;

fn of_lines() -> [Change; 3] {
    [
        Change::new("ada", json!({"plan": "free", "seats": 3})),
        Change::new("bob", json!({})).of_company("acme"),
        Change::new("ada", json!({"plan": "pro"})),
    ]
}

#[tokio::test]
async fn send_sends_lines_of_a_file_or_of_standard_input() {
    for from_file in [true, false] {
        let stage = Stage::of(at_speed(100), |site| site.with("app.linger_ms", 300)).await;
        let (grpc, _) = addresses(&stage);
        let file = stage.site.path("updates.ndjson");
        fs::write(&file, LINES).unwrap();
        let (file, input) = if from_file { (file.to_str().unwrap(), "") } else { ("-", LINES) };
        let output = run(&["send", "--address", &grpc, "--file", file], input).await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, "3 accepted (1 coalesced), 0 refused\n");
        stage.delivers(&of_lines()).await;
    }
}

#[tokio::test]
async fn send_names_each_line_that_is_refused_and_sends_the_others() {
    let stage = Stage::start(100).await;
    let (grpc, _) = addresses(&stage);
    let lines = format!(
        "{{\"user_id\":\"\"}}\n{LINES}{}\n",
        r#"{"user_id":"eve","metadata":{"tags":["a"]}}"#
    );
    let output = run(&["send", "--address", &grpc, "--file", "-"], &lines).await;
    assert!(!output.status.success());
    assert!(output.stdout.ends_with("3 accepted (1 coalesced), 2 refused\n"), "{output:?}");
    for line in ["line 1: update.user_id", "line 6: update.metadata[\"tags\"]"] {
        assert!(output.stderr.contains(line), "{line}: {output:?}");
    }
    stage.delivers(&of_lines()).await;
}

#[tokio::test]
async fn send_waits_for_room_and_goes_on_in_order() {
    let little = |site: Site| site.with("store.pending_records_max", 3);
    let stage = Stage::of(at_speed(100), little).await;
    let (grpc, _) = addresses(&stage);
    let changes: Vec<_> =
        (0..24).map(|nth| Change::new(format!("user-{}", nth % 8), json!({"nth": nth}))).collect();
    let line = |change: &Change| {
        json!({"user_id": change.user_id, "metadata": change.metadata}).to_string() + "\n"
    };
    let lines: String = changes.iter().map(line).collect();
    let arguments = ["send", "--address", &grpc, "--file", "-", "--retry-delay-max", "1"];
    let output = run(&arguments, &lines).await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with("24 accepted ("), "{output:?}");
    assert!(stage.gateway.app().await.totals.unwrap().refused_updates > 0);
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn send_stops_at_a_line_that_it_cannot_read_and_names_it() {
    let stage = Stage::start(100).await;
    let (grpc, _) = addresses(&stage);
    let lines = format!("{LINES}{{\"user_id\": 5}}\n{{\"user_id\":\"eve\"}}\n");
    let output = run(&["send", "--address", &grpc, "--file", "-"], &lines).await;
    assert!(!output.status.success());
    assert!(output.stderr.contains("line 5"), "{output:?}");
    stage.delivers(&of_lines()).await;
}

#[tokio::test]
async fn commands_say_that_nobody_answers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = address(&free.local_addr().unwrap().to_string());
    drop(free);
    for arguments in [
        ["send", "--user-id", "ada", "--address"].as_slice(),
        &["status", "--address"],
        &["jobs", "--address"],
    ] {
        let output = run(&[arguments, &[&nobody]].concat(), "").await;
        assert!(!output.status.success());
        assert!(output.stderr.contains(&format!("no gateway answers at {nobody}")), "{output:?}");
    }
}

#[tokio::test]
async fn status_and_jobs_show_what_happened() {
    let stage = Stage::start(100).await;
    let (grpc, admin) = addresses(&stage);
    run(&["send", "--address", &grpc, "--file", "-"], LINES).await;
    settled(&stage.gateway).await;
    let status = run(&["status", "--address", &admin], "").await;
    assert!(status.status.success());
    for part in ["ready", "sled store", "last sequence 3", "production: ", "0 users", "3 updates"] {
        assert!(status.stdout.contains(part), "{part}: {status:?}");
    }
    let jobs = run(&["jobs", "--address", &admin], "").await;
    assert!(jobs.status.success());
    for job in stage.gateway.jobs(50).await {
        let line = jobs.stdout.lines().find(|line| line.contains(&job.batch_id)).unwrap();
        assert!(line.contains("delivered") && line.contains(&job.job_id), "{line}");
    }
}

#[tokio::test]
async fn status_goes_on_until_it_is_told_to_end() {
    let mut stage = Stage::start(100).await;
    let (_, admin) = addresses(&stage);
    let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    command.args(["status", "--watch", "--address", &admin]).env_clear();
    let mut watch = Process::start(&mut command, "");
    let shown = |watch: &Process| {
        watch.printed().iter().filter(|line| line.contains("production: ")).count()
    };
    until("a second look", async || (shown(&watch) >= 2).then_some(())).await;
    // A restart does not end it.
    let address = stage.gateway.addresses.admin.clone();
    stage.gateway.kill();
    watch.says("no answer since").await;
    let before = shown(&watch);
    stage.site = stage.site.with("server.admin_listen", address);
    stage.gateway = stage.site.serve().await;
    until("a look at the new one", async || (shown(&watch) > before).then_some(())).await;
    watch.terminate();
    assert!(watch.end().await.status.success());
}

#[tokio::test]
async fn check_config_prints_what_is_in_force_and_no_key() {
    let site = Site::new("http://127.0.0.1:9", 1.0).with("app.linger_ms", 1_234);
    let config = site.config();
    let output = run(&["check-config", "--config", config.to_str().unwrap()], "").await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.contains("linger_ms = 1234"), "{output:?}");
    assert!(!output.stdout.contains("simulated-key") && output.stdout.contains("userpilot.key"));

    let site = site.with("app.linger", 1);
    let config = site.config();
    let output = run(&["check-config", "--config", config.to_str().unwrap()], "").await;
    assert!(!output.status.success());
    assert!(output.stderr.contains("did you mean linger_ms"), "{output:?}");
}

#[tokio::test]
async fn the_default_configuration_serves_against_a_simulator_of_its_own_process() {
    let binary = env!("CARGO_BIN_EXE_userpilot-gateway");
    let mut command = Command::new(binary);
    command.args(["simulate-userpilot", "--listen", "127.0.0.1:0", "--speed", "100"]).env_clear();
    let mut simulator = Process::start(&mut command, "");
    let url = until("the simulator's address", async || {
        let printed = simulator.printed();
        printed.first()?.strip_prefix("simulated Userpilot listens on ").map(str::to_owned)
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let defaults = run(&["print-default-config"], "").await.stdout;
    fs::write(folder.path().join("gateway.toml"), defaults).unwrap();
    let mut command = Command::new(binary);
    command.arg("serve").env_clear().current_dir(&folder).envs([
        ("USERPILOT_API_KEY", "simulated-key"),
        ("USERPILOT_GATEWAY__SERVER__GRPC_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__SERVER__HTTP_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__APPS__0__BASE_URL", &url),
    ]);
    let gateway = Gateway::of(Process::start(&mut command, "")).await;
    let grpc = address(&gateway.addresses.grpc);
    run(&["send", "--address", &grpc, "--user-id", "ada", "--set", "plan=pro"], "").await;
    settled(&gateway).await;
    let profile = get(&format!("{url}/_simulator/profiles/ada")).await;
    let profile: serde_json::Value = profile.json().await.unwrap();
    assert_eq!(profile, json!({"company_id": null, "metadata": {"plan": "pro"}}));

    simulator.terminate();
    assert!(simulator.end().await.status.success());
}

#[tokio::test]
async fn a_command_that_is_none_is_explained() {
    let output = run(&["serv"], "").await;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("serve"), "{output:?}");
    assert!(run(&["--version"], "").await.stdout.starts_with("userpilot-gateway "));
}
